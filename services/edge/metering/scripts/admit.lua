-- Let a job begin, or say why it may not: ARGV job, lease (ms), transcription | summary, the tiers' limits (JSON).

local job, lease_ms, work, limits = ARGV[1], tonumber(ARGV[2]), ARGV[3], cjson.decode(ARGV[4])
local is_address = ARGV[5] == 'anonymous'

local function refuse(outcome, retry_after_s)
    return cjson.encode({ outcome = outcome, retry_after_s = retry_after_s })
end

local tier = is_address and 'anonymous' or tier_now()
if not tier then return refuse('unknown_account') end
local limit = limits[tier]
reap()
turn()

local admitted = { outcome = 'admitted', tier = tier, balance = number('balance') }
if find(job) then return cjson.encode(admitted) end

local is_paid_for = false
if ANSWER and redis.call('EXISTS', ANSWER) == 1 then
    if redis.call('HEXISTS', ANSWER, 'body') == 1 then
        admitted.outcome = 'replay'
    elseif redis.call('HEXISTS', ANSWER, 'too_large') == 1 then
        return refuse('answer_too_large')
    elseif find(redis.call('HGET', ANSWER, 'job')) then
        return refuse('running', 1)
    end
    is_paid_for = redis.call('HEXISTS', ANSWER, 'charged') == 1
end

local entry = { tier = tier, hold = 0 }
if work == 'transcription' and not is_paid_for then
    if tier == 'paid' and admitted.balance < 1 then
        return refuse('no_credits')
    elseif tier == 'free' and number('minutes') + held(tier, MONTH) >= limit.minutes_per_month then
        return refuse('month_used', seconds_to(NEXT_MONTH_MS))
    elseif tier == 'anonymous' then
        if number('count') + held(tier, DAY) >= limit.transcriptions_per_day then
            return refuse('day_used', seconds_to(NEXT_DAY_MS))
        end
        entry.hold, entry.period = 1, DAY
    end
end
if redis.call('ZCARD', LEASES) >= limit.concurrent then return refuse('busy') end

redis.call('ZADD', LEASES, NOW + lease_ms, job)
keep(job, entry)
if ANSWER and admitted.outcome == 'admitted' then
    redis.call('HSET', ANSWER, 'job', job)
    if not is_paid_for then redis.call('EXPIRE', ANSWER, KEPT_S) end
end
if is_address then
    for _, key in ipairs({ STATE, LEASES, JOBS }) do redis.call('EXPIRE', key, 2 * KEPT_S) end
end
return cjson.encode(admitted)
