-- Heads and bodies for wrk, and its figures as one line of JSON.
-- Arguments: which head (bare, browser, unique), the method, octets of the body.

-- With the request line and Host of the benchmark, 700 octets.
local browser = {
  ["Connection"] = "keep-alive",
  ["sec-ch-ua"] = '"Chromium";v="142", "Not-A.Brand";v="99"',
  ["sec-ch-ua-mobile"] = "?0",
  ["sec-ch-ua-platform"] = '"Linux"',
  ["Upgrade-Insecure-Requests"] = "1",
  ["User-Agent"] = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) " ..
    "Chrome/142.0.0.0 Safari/537.36",
  ["Accept"] = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp," ..
    "image/apng,*/*;q=0.8",
  ["Sec-Fetch-Site"] = "same-origin",
  ["Sec-Fetch-Mode"] = "navigate",
  ["Sec-Fetch-Dest"] = "document",
  ["Referer"] = "http://service.example/a/page/before",
  ["Accept-Encoding"] = "gzip, deflate, br, zstd",
  ["Accept-Language"] = "en-US,en;q=0.9",
  ["Cookie"] = "session=0123456789abcdef0123456789abcdef; theme=dark",
}

-- Each thread has a Lua of its own, and there is one.
local function differing()
  wrk.headers["X-Request-ID"] = "<id>"
  wrk.headers["Cookie"] = "session=<id>; theme=dark"
  local before, between, after = wrk.format():match("^(.-)<id>(.-)<id>(.*)$")
  local seed = string.format("%08x-%04x-", os.time(), math.random(0, 65535))
  local count = 0
  return function()
    count = count + 1
    local id = seed .. string.format("%012x", count)
    return before .. id .. between .. id .. after
  end
end

function init(args)
  local head, method, octets = args[1], args[2], tonumber(args[3])
  wrk.method = method
  if octets > 0 then
    wrk.body = string.rep("x", octets)
  end
  if head == "browser" or head == "unique" then
    for name, value in pairs(browser) do wrk.headers[name] = value end
  elseif head == "close" then
    wrk.headers["Connection"] = "close"
  end
  if head == "unique" then
    request = differing()
  end
end

function done(summary, latency, requests)
  local errors = summary.errors
  io.write(string.format(
    '{"requests": %d, "bytes": %d, "seconds": %.6f, "p50": %d, "p99": %d, ' ..
    '"statuses": %d, "broken": %d}\n',
    summary.requests, summary.bytes, summary.duration / 1e6,
    latency:percentile(50), latency:percentile(99),
    errors.status, errors.connect + errors.read + errors.write + errors.timeout))
end
