-- Keep a job's lease alive: ARGV job, lease (ms).

local job, lease_ms = ARGV[1], tonumber(ARGV[2])

redis.call('ZADD', LEASES, 'XX', NOW + lease_ms, job)
reap()
return cjson.encode({ running = find(job) and true or false })
