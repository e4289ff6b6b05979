-- Heads and bodies for wrk, and its results as one line of JSON.
-- Arguments: the head (bare, close, browser, unique), the method, bytes of the body.

local fields = {
  bare = "",
  close = "Connection: close\r\n",
  -- The fields of a browser, in its order; the whole head has 700 bytes.
  browser = table.concat({
    "Connection: keep-alive",
    'sec-ch-ua: "Chromium";v="142", "Not-A.Brand";v="99"',
    "sec-ch-ua-mobile: ?0",
    'sec-ch-ua-platform: "Linux"',
    "Upgrade-Insecure-Requests: 1",
    "User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) " ..
      "Chrome/142.0.0.0 Safari/537.36",
    "Accept: text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp," ..
      "image/apng,*/*;q=0.8",
    "Sec-Fetch-Site: same-origin",
    "Sec-Fetch-Mode: navigate",
    "Sec-Fetch-Dest: document",
    "Referer: http://service.example/the/whole/page/before/this",
    "Accept-Encoding: gzip, deflate, br, zstd",
    "Accept-Language: en-US,en;q=0.9",
    "Cookie: session=0123456789abcdef0123456789abcdef; theme=dark",
    "",
  }, "\r\n"),
}

-- A different cookie and request id for each request.
local function differing(text)
  local before, between, after = text
    :gsub("session=%x+", "session=<id>")
    :gsub("Cookie: ", "X-Request-ID: <id>\r\nCookie: ")
    :match("^(.-)<id>(.-)<id>(.*)$")
  local seed = string.format("%08x%08x", os.time(), math.random(0, 2 ^ 31 - 1))
  local count = 0
  return function()
    count = count + 1
    local id = seed .. string.format("%016x", count)
    return before .. id .. between .. id .. after
  end
end

function init(args)
  local head, method, bytes = args[1], args[2], tonumber(args[3])
  local text = method .. " " .. wrk.path .. " HTTP/1.1\r\nHost: " .. wrk.headers["Host"] ..
    "\r\n" .. fields[head == "unique" and "browser" or head]
  if bytes > 0 then
    text = text .. "Content-Length: " .. bytes .. "\r\n"
  end
  text = text .. "\r\n" .. string.rep("x", bytes)
  if head == "unique" then
    request = differing(text)
  else
    -- wrk calls it only once, as all requests are equal.
    wrk.format = function() return text end
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
