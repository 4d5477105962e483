-- What `wrk` sends (BODY of the environment) and how it reports: one JSON object on a line of its own.
wrk.method = "POST"
wrk.body = os.getenv("BODY")
wrk.headers["Content-Type"] = "application/json"

function done(summary, latency, requests)
  local points = {}
  for percent = 1, 99 do
    points[#points + 1] = string.format("[%d, %.4f]", percent, latency:percentile(percent) / 1000)
  end
  for _, percent in ipairs({99.5, 99.9, 99.99}) do
    points[#points + 1] = string.format("[%.2f, %.4f]", percent, latency:percentile(percent) / 1000)
  end
  points[#points + 1] = string.format("[100, %.4f]", latency.max / 1000)
  local e = summary.errors
  io.write(string.format(
    '\n{"requests": %d, "seconds": %.6f, "failed": %d, "closed": %d, "counted": 0, "percentiles": [%s],'
      .. ' "problems": {"status": %d, "timeout": %d, "socket": %d}}\n',
    summary.requests, summary.duration / 1e6, e.status + e.timeout + e.connect + e.read + e.write,
    e.read + e.write, table.concat(points, ", "), e.status, e.timeout, e.connect + e.read + e.write))
end
