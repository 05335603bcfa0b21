-- Add credits to an account, once whatever is retried: ARGV the operation, the credits.

local operation, credits = ARGV[1], tonumber(ARGV[2])

if not tier_now() then return cjson.encode({ outcome = 'unknown_account' }) end
if redis.call('EXISTS', DONE) == 0 then
    post('grant', operation, { granted = credits, balance = credits })
    redis.call('SET', DONE, 0, 'EX', KEPT_S)
end
return cjson.encode({ outcome = 'granted', balance = number('balance') })
