-- wrk's script: one kind of request on random customers, told by the environment; prints one line of JSON.
local kind = os.getenv("BENCH_KIND")
local path = os.getenv("BENCH_PATH")
local tail = os.getenv("BENCH_TAIL") or ""
local listing = os.getenv("BENCH_LIST") or ""
local count = tonumber(os.getenv("BENCH_COUNT"))
local format = os.getenv("BENCH_ID")
local threads = 0

function setup(thread)
  threads = threads + 1
  thread:set("number", threads)
end

function init()
  math.randomseed(os.time() * 1000 + number)
end

local function body()
  local n = math.random(1, 1000000000)
  return string.format(
    '{"name": "Ada Lovelace", "email": "ada.%d@example.com", "phone": "+1 555 %09d", ' ..
    '"metadata": {"city": "Toronto", "tier": "gold"}}', n, n)
end

local json = { ["Content-Type"] = "application/json", ["Accept"] = "application/json" }

function request()
  if kind == "list" then return wrk.format("GET", path .. listing, json) end
  if kind == "post" then return wrk.format("POST", path, json, body()) end
  local one = path .. string.format(format, math.random(1, count)) .. tail
  if kind == "put" then return wrk.format("PUT", one, json, body()) end
  return wrk.format("GET", one, json)
end

function done(summary, latency)
  local e = summary.errors
  io.write(string.format(
    '\n{"requests": %d, "seconds": %.3f, "bad_status": %d, "broken": %d, "p50_ms": %.2f, "p99_ms": %.2f}\n',
    summary.requests, summary.duration / 1e6, e.status, e.connect + e.read + e.write + e.timeout,
    latency:percentile(50) / 1000, latency:percentile(99) / 1000))
end
