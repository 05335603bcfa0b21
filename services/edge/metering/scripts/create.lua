-- Make an account: ARGV the operation, its tier, its first credits. An account that exists is left as it is.

local operation, tier, credits = ARGV[1], ARGV[2], tonumber(ARGV[3])

if redis.call('EXISTS', DONE) == 0 then
    if tier_now() then return cjson.encode({ outcome = 'exists' }) end
    redis.call('HSET', STATE, 'tier', tier, 'balance', 0, 'granted', 0, 'spent', 0, 'written_off', 0, 'created', NOW)
    post('grant', operation, { granted = credits, balance = credits })
    redis.call('SET', DONE, 0, 'EX', KEPT_S)
end
return cjson.encode({ outcome = 'created', balance = number('balance') })
