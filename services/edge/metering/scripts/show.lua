-- How an account stands, and the id of the last ledger entry that has led there.

local tier = tier_now()
if not tier then return cjson.encode({ outcome = 'unknown_account' }) end
reap()
turn()
local last = redis.call('XREVRANGE', LEDGER, '+', '-', 'COUNT', 1)
return cjson.encode({
    outcome = 'shown',
    tier = tier,
    balance = number('balance'),
    granted = number('granted'),
    spent = number('spent'),
    written_off = number('written_off'),
    held = held('paid'),
    minutes = number('minutes') + held('free', MONTH),
    running = redis.call('ZCARD', LEASES),
    last_entry = last[1] and last[1][1] or '0-0',
})
