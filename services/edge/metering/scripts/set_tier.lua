-- Move an account to a tier: ARGV the tier. Its credits stay; what runs goes on as it was admitted.

if not tier_now() then return cjson.encode({ outcome = 'unknown_account' }) end
redis.call('HSET', STATE, 'tier', ARGV[1])
return cjson.encode({ outcome = 'set', balance = number('balance') })
