-- What every script knows of one subject: an account, or an address without one. It stands before each of them.
--
-- STATE   hash    tier; balance, granted, spent, written_off (credits); month and minutes, day and count (usage)
-- LEASES  zset    running jobs, scored by the time (ms) at which their edge is taken for dead
-- JOBS    hash    the same jobs, as JSON: tier; hold, the units they may cost; period, the month or day they count in
-- LEDGER  stream  every change of an account's credits and minutes, for ever
-- DONE    string  of one operation: what it charged; it was settled and is not settled again
-- ANSWER  hash    of one Idempotency-Key: job, fingerprint, charged; content_type, body once there is an answer
--
-- A unit is a credit (paid), a minute (free), or a transcription (anonymous). Always:
-- granted = balance + the paid jobs' holds + spent, and balance >= 0.

local STATE, LEASES, JOBS, LEDGER, DONE, ANSWER = unpack(KEYS)
local NOW = now_ms()
local DAY_MS = 86400 * 1000
local KEPT_S = 86400
local RESTART_S = 30

local function number(field)
    return tonumber(redis.call('HGET', STATE, field) or 0)
end

-- The UTC year and month of a time, and when the next one begins (ms). Days are counted from 1 March of year 0.
local function month_of(ms)
    local function first_day(year, month)
        if month <= 2 then year = year - 1; month = month + 12 end
        return 365 * year + math.floor(year / 4) - math.floor(year / 100) + math.floor(year / 400)
            + math.floor((153 * (month - 3) + 2) / 5) - 719468
    end
    local days = math.floor(ms / DAY_MS)
    local year, month = 1970 + math.floor(days / 365.2425), 1
    if first_day(year + 1, 1) <= days then year = year + 1 elseif first_day(year, 1) > days then year = year - 1 end
    while month < 12 and first_day(year, month + 1) <= days do month = month + 1 end
    local next_day = month == 12 and first_day(year + 1, 1) or first_day(year, month + 1)
    return string.format('%04d-%02d', year, month), next_day * DAY_MS
end

local MONTH, NEXT_MONTH_MS = month_of(NOW)
local DAY = tostring(math.floor(NOW / DAY_MS))
local NEXT_DAY_MS = (math.floor(NOW / DAY_MS) + 1) * DAY_MS

local function seconds_to(ms)
    return math.ceil((ms - NOW) / 1000)
end

local function tier_now()
    return redis.call('HGET', STATE, 'tier')
end

-- Apply changes to the state, and write them into the ledger of an account. Minutes of a past month are only written.
local function post(kind, job, changes, is_past)
    local entry = { 'at', string.format('%.0f', NOW), 'kind', kind, 'job', job }
    for field, change in pairs(changes) do
        if change ~= 0 then
            if field ~= 'held' and not (is_past and field == 'minutes') then
                redis.call('HINCRBY', STATE, field, change)
            end
            entry[#entry + 1] = field
            entry[#entry + 1] = tostring(change)
        end
    end
    if #entry > 6 and tier_now() then redis.call('XADD', LEDGER, '*', unpack(entry)) end
end

-- Begin a new month and a new day where they have turned.
local function turn()
    if redis.call('HGET', STATE, 'month') ~= MONTH then redis.call('HSET', STATE, 'month', MONTH, 'minutes', 0) end
    if redis.call('HGET', STATE, 'day') ~= DAY then redis.call('HSET', STATE, 'day', DAY, 'count', 0) end
end

local function find(job)
    local text = redis.call('HGET', JOBS, job)
    return text and cjson.decode(text)
end

local function keep(job, entry)
    redis.call('HSET', JOBS, job, cjson.encode(entry))
end

-- The units that running jobs of a tier hold, of those that count in `period` where one is given.
local function held(tier, period)
    local sum = 0
    for _, text in ipairs(redis.call('HVALS', JOBS)) do
        local entry = cjson.decode(text)
        if entry.tier == tier and (not period or entry.period == period) then sum = sum + entry.hold end
    end
    return sum
end

-- End a job: its slot is free, and what it still holds goes back.
local function drop(job, kind)
    local entry = find(job)
    redis.call('ZREM', LEASES, job)
    redis.call('HDEL', JOBS, job)
    if entry and entry.tier == 'paid' then post(kind, job, { balance = entry.hold, held = -entry.hold }) end
end

-- Drop the jobs whose edge is dead. After a restart of the server the living renew first.
local function reap()
    local expired = redis.call('ZRANGEBYSCORE', LEASES, '-inf', string.format('%.0f', NOW))
    if #expired == 0 or uptime_s() < RESTART_S then return end
    for _, job in ipairs(expired) do drop(job, 'expire') end
end
