-- wrk.lua -- FILE CONTENT_TYPE: POSTs the lines of FILE in turn, and ends with one line of JSON about the answers.
-- It has no response(): a call for each answer would cost more than sending its request.

local requests, next = {}, 0

function init(args)
  for body in io.lines(args[1]) do
    requests[#requests + 1] = wrk.format("POST", nil, {["Content-Type"] = args[2]}, body)
  end
end

function request()
  next = next % #requests + 1
  return requests[next]
end

function done(summary, latency)
  local errors = summary.errors
  print(string.format(
    '{"requests": %d, "seconds": %f, "p50": %f, "p99": %f, "lost": %d, "refused": %d}',
    summary.requests, summary.duration / 1e6, latency:percentile(50) / 1e3, latency:percentile(99) / 1e3,
    errors.connect + errors.read + errors.write + errors.timeout, errors.status
  ))
end
