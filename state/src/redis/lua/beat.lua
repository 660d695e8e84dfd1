-- A gateway's heartbeat, one for all of its members. Stands alone.
--
-- KEYS[1] alive        sorted set: gateway -> until when it is taken for alive
-- KEYS[2] dead         sorted set: gateway -> from when on the next one may clean up after it
-- KEYS[3] generations  hash: gateway -> generation, a new one each time that it comes (back) to life
-- ARGV[1] time in ms; empty: the server's own clock
-- ARGV[2] gateway
-- ARGV[3] how long a gateway lives after its last heartbeat, in ms
--
-- Answers the gateway's generation, then gateway and generation of each dead one that the caller is to clean up after:
-- it has that long, then the next one is asked.

local now_ms = tonumber(ARGV[1])
if not now_ms then
    local time = redis.call('TIME')
    now_ms = time[1] * 1000 + math.floor(time[2] / 1000)
end
local lives_ms = tonumber(ARGV[3])
local function text(number)
    return string.format('%.0f', number)
end

-- When nobody was heard of for half a life, it was the server that was away, or its clock that has moved on: all of them
-- get the time to come back.
local last = tonumber(redis.call('ZREVRANGE', KEYS[1], 0, 0, 'WITHSCORES')[2])
if last and now_ms - (last - lives_ms) > lives_ms / 2 then
    for _, silent in ipairs(redis.call('ZRANGE', KEYS[1], 0, -1)) do
        redis.call('ZADD', KEYS[1], text(now_ms + lives_ms), silent)
    end
end

local until_ms = tonumber(redis.call('ZSCORE', KEYS[1], ARGV[2]) or '0')
local generation = tonumber(redis.call('HGET', KEYS[3], ARGV[2]) or '0')
if until_ms <= now_ms or generation == 0 then
    generation = math.max(generation + 1, now_ms)
    redis.call('HSET', KEYS[3], ARGV[2], text(generation))
    redis.call('ZREM', KEYS[2], ARGV[2])
end
redis.call('ZADD', KEYS[1], text(now_ms + lives_ms), ARGV[2])

-- After a clock that was set back, nobody is alive for longer than somebody who has just said so.
for _, late in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '(' .. text(now_ms + lives_ms), '+inf')) do
    redis.call('ZADD', KEYS[1], text(now_ms + lives_ms), late)
end
for _, gone in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', text(now_ms))) do
    redis.call('ZREM', KEYS[1], gone)
    redis.call('ZADD', KEYS[2], text(now_ms), gone)
end
local reply = { text(generation) }
for _, gone in ipairs(redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', text(now_ms))) do
    redis.call('ZADD', KEYS[2], text(now_ms + lives_ms), gone)
    reply[#reply + 1] = gone
    reply[#reply + 1] = redis.call('HGET', KEYS[3], gone) or '0'
end
return reply
