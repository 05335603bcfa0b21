-- End a job that costs nothing, or nothing more: ARGV job. Its Idempotency-Key may be used again.

local job = ARGV[1]

drop(job, 'release')
if ANSWER and redis.call('HGET', ANSWER, 'job') == job then
    if redis.call('HEXISTS', ANSWER, 'charged') == 0 then redis.call('DEL', ANSWER) end
end
return cjson.encode({ balance = number('balance') })
