-- wrk's requests, and its results as one line of JSON.
-- Arguments: a file with the request, in which {path} and {id} stand for what differs, and
-- a file with the paths of pages.

function init(args)
  local file = assert(io.open(args[1]))
  local form = file:read("*a")
  file:close()
  if not form:find("{id}", 1, true) then
    -- wrk calls it only once, as all requests are equal.
    wrk.format = function() return form end
    return
  end
  local paths = {wrk.path}
  if wrk.path == "/pages/" then
    paths = {}
    for line in io.lines(args[2]) do paths[#paths + 1] = line end
  end
  local method, query, id, cookie, rest =
    form:match("^(.-){path}(.-){id}(.-){id}(.-){id}(.*)$")
  math.randomseed(os.time())
  local seed = string.format("%08x%08x", os.time(), math.random(0, 2 ^ 31 - 1))
  local count = 0
  request = function()
    count = count + 1
    local own = seed .. string.format("%016x", count)
    return method .. paths[count % #paths + 1] .. query .. own .. id .. own .. cookie .. own ..
      rest
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
