-- The media nodes whose lease has not ended. Stands alone.
--
-- KEYS[1] nodes  KEYS[2] leases, as in register.lua
-- ARGV[1] time in ms; empty: the server's own clock
--
-- Answers the JSON of each. Forgets the others.

local now_ms = tonumber(ARGV[1])
if not now_ms then
    local time = redis.call('TIME')
    now_ms = time[1] * 1000 + math.floor(time[2] / 1000)
end
local kept = redis.call('HGETALL', KEYS[2])
local found = {}
for n = 1, #kept, 2 do
    local node = kept[n]
    local until_text, lease_text = string.match(kept[n + 1], '^(%d+):(%d+)$')
    local until_ms, lease_ms = tonumber(until_text), tonumber(lease_text)
    -- After a clock that was set back, no lease is longer than one from now.
    if until_ms > now_ms + lease_ms then
        until_ms = now_ms + lease_ms
        redis.call('HSET', KEYS[2], node, string.format('%.0f', until_ms) .. ':' .. lease_text)
    end
    if until_ms > now_ms then
        found[#found + 1] = redis.call('HGET', KEYS[1], node)
    else
        redis.call('HDEL', KEYS[1], node)
        redis.call('HDEL', KEYS[2], node)
    end
end
return found
