-- A media node says that it is there, and how full it is. Stands alone.
--
-- KEYS[1] nodes   hash: node -> JSON of what it says
-- KEYS[2] leases  hash: node -> until when, a colon, for how long each time; in ms
-- ARGV[1] time in ms; empty: the server's own clock
-- ARGV[2] node  ARGV[3] JSON  ARGV[4] lease in ms
--
-- Answers nothing. With the last node that ever was, the list itself is forgotten after a day.

local now_ms = tonumber(ARGV[1])
if not now_ms then
    local time = redis.call('TIME')
    now_ms = time[1] * 1000 + math.floor(time[2] / 1000)
end
redis.call('HSET', KEYS[1], ARGV[2], ARGV[3])
redis.call('HSET', KEYS[2], ARGV[2], string.format('%.0f', now_ms + tonumber(ARGV[4])) .. ':' .. ARGV[4])
redis.call('PEXPIRE', KEYS[1], 86400000)
redis.call('PEXPIRE', KEYS[2], 86400000)
