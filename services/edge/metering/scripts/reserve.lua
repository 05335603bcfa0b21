-- Hold what a job will cost: ARGV job, its units in all so far, the free tier's minutes, the request's fingerprint.
-- Asked for the same again, it holds no more.

local job, units, minutes, fingerprint = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), ARGV[4]

reap()
turn()
local entry = find(job)
if not entry then return cjson.encode({ outcome = 'expired' }) end

local due = units
if ANSWER then
    local known = redis.call('HGET', ANSWER, 'fingerprint')
    if known and known ~= fingerprint then return cjson.encode({ outcome = 'other_request' }) end
    redis.call('HSET', ANSWER, 'fingerprint', fingerprint)
    due = math.max(0, units - tonumber(redis.call('HGET', ANSWER, 'charged') or 0))
end

local more = due - entry.hold
if entry.tier == 'paid' and more > 0 then
    local balance = number('balance')
    if more > balance then
        return cjson.encode({ outcome = 'too_few_credits', needed = due, remaining = balance + entry.hold })
    end
    post('reserve', job, { balance = -more, held = more })
    entry.hold, entry.period = due, MONTH
elseif entry.tier == 'free' and more > 0 then
    local used = number('minutes') + held('free', MONTH)
    if entry.period and entry.period ~= MONTH then used = used + entry.hold end
    if used + more > minutes then
        return cjson.encode({
            outcome = 'too_few_minutes',
            needed = due,
            remaining = math.max(0, minutes - used + entry.hold),
            retry_after_s = seconds_to(NEXT_MONTH_MS),
        })
    end
    entry.hold, entry.period = due, MONTH
end
keep(job, entry)
return cjson.encode({ outcome = 'reserved', charged = entry.tier == 'paid' and due or 0, balance = number('balance') })
