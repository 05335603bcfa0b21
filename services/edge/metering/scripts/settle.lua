-- Charge a job, once whatever is retried: ARGV job, its units, "keep" or "free" its slot; with an Idempotency-Key the
-- request's fingerprint and, once there is one, the answer: its content type and body, empty where it is too large.
-- A job whose hold has expired takes what is left, and the rest is written off.

local job, units, slot, fingerprint, content_type, body = unpack(ARGV)
local due = tonumber(units)

turn()
local charged = tonumber(redis.call('GET', DONE) or '')
if not charged then
    local entry = find(job) or { tier = tier_now() or 'anonymous', hold = 0 }
    if ANSWER then due = math.max(0, due - tonumber(redis.call('HGET', ANSWER, 'charged') or 0)) end
    local is_past = entry.period and entry.period ~= (entry.tier == 'anonymous' and DAY or MONTH)
    charged = 0
    if entry.tier == 'paid' then
        charged = math.min(due, entry.hold + number('balance'))
        post('settle', job, {
            held = -entry.hold,
            balance = entry.hold - charged,
            spent = charged,
            written_off = due - charged,
            minutes = due,
        }, is_past)
    elseif entry.tier == 'free' then
        post('settle', job, { minutes = due }, is_past)
    elseif due > 0 and not is_past then
        post('settle', job, { count = 1 })
        redis.call('EXPIRE', STATE, 2 * KEPT_S)
    end
    redis.call('SET', DONE, charged, 'EX', KEPT_S)
    if ANSWER then redis.call('HINCRBY', ANSWER, 'charged', due) end
    if find(job) then
        entry.hold = 0
        keep(job, entry)
    end
end
if slot == 'free' then drop(job, 'release') end
if ANSWER and content_type then
    redis.call('HSET', ANSWER, 'fingerprint', fingerprint)
    if body == '' then
        redis.call('HSET', ANSWER, 'too_large', 1)
    else
        redis.call('HSET', ANSWER, 'content_type', content_type, 'body', body)
    end
    redis.call('EXPIRE', ANSWER, KEPT_S)
end
return cjson.encode({ charged = charged, due = due, balance = number('balance') })
