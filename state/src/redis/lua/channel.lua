-- What every script about a channel begins with: its keys, the time, the rules of the floor and announcements. It is put
-- in front of the other files of this folder when they are embedded, and sent to the server as one script with each.
--
-- KEYS[1] floor     hash: epoch, and while held user, name, connection, gateway, node, taken,
--                  lease; roster: see presence.lua
-- KEYS[2] topic     pub/sub channel of the announcements
-- KEYS[3] members   hash: connection -> JSON of its owner, and since when it is its gateway's
-- KEYS[4] users     hash: user -> number of connections, a colon, name
-- KEYS[5] gateways  hash: gateway with members here -> the generation that it had when it joined or restored them
-- ARGV[1] time in ms since the Unix epoch; empty: the server's own clock (tests alone give another)
-- ARGV[2] lease in ms
-- ARGV[3] talk limit in ms; empty: none
-- ARGV[4...] what the script itself asks for
--
-- The rules mirror floor/rules.rs, function by function and under the same names. Numbers here are exact up to 2^53;
-- epochs are text on the wire.

local lease_ms = tonumber(ARGV[2])
local limit_ms = tonumber(ARGV[3]) -- nil: none

local function server_ms()
    local time = redis.call('TIME')
    return time[1] * 1000 + math.floor(time[2] / 1000)
end

local now_ms = tonumber(ARGV[1]) or server_ms()

local function text(number)
    return string.format('%.0f', number)
end

-- The floor as it is kept: { epoch, holder = nil or { user, name, connection, gateway, node, taken, lease } }.
local function load_floor()
    local f = redis.call('HMGET', KEYS[1], 'epoch', 'user', 'name', 'connection', 'gateway', 'node', 'taken', 'lease')
    local floor = { epoch = tonumber(f[1]) or 0 }
    if f[4] then
        floor.holder = {
            user = f[2], name = f[3], connection = f[4], gateway = f[5],
            node = f[6] or '', -- a release that did not know of it says none
            taken = tonumber(f[7]), lease = tonumber(f[8]),
        }
    end
    return floor
end

-- A day. A floor that nobody has touched for so long is forgotten: the clock alone then carries its epochs on.
local FORGOTTEN_AFTER_MS = 86400000

local function save_floor(floor)
    local holder = floor.holder
    if holder then
        redis.call('HSET', KEYS[1], 'epoch', text(floor.epoch), 'user', holder.user, 'name', holder.name,
            'connection', holder.connection, 'gateway', holder.gateway, 'node', holder.node,
            'taken', text(holder.taken), 'lease', text(holder.lease))
    else
        redis.call('HSET', KEYS[1], 'epoch', text(floor.epoch))
        redis.call('HDEL', KEYS[1], 'user', 'name', 'connection', 'gateway', 'node', 'taken', 'lease')
    end
    redis.call('PEXPIRE', KEYS[1], FORGOTTEN_AFTER_MS)
end

-- The answer's form of a floor, after the script's own word.
local function answer(word, floor)
    local holder = floor.holder
    if holder then
        return { word, text(floor.epoch), holder.user, holder.name, holder.connection, holder.gateway,
            holder.node, text(holder.taken), text(holder.lease) }
    end
    return { word, text(floor.epoch) }
end

-- Sharded where the server has it (Redis 7), plain otherwise: a subscriber finds out in the same way.
local function announce(event)
    event.v = 1
    local json = cjson.encode(event)
    local sent = redis.pcall('SPUBLISH', KEYS[2], json)
    if type(sent) == 'table' and sent.err then
        redis.call('PUBLISH', KEYS[2], json)
    end
end

-- The trace of the press that is decided, for whoever hears of it (W3C traceparent); nil or empty: none. known.lua sets it.
local trace

local function owner_of(holder)
    return { user = holder.user, name = holder.name, connection = holder.connection, gateway = holder.gateway }
end

local function longest_lease(taken)
    local longest = now_ms + lease_ms
    if limit_ms then
        longest = math.min(longest, taken + limit_ms)
    end
    return longest
end

local function is_over(holder)
    return now_ms >= holder.lease
end

-- Keeps the next floor, tells everybody.
local function keep_change(last, floor, cause)
    local holder = floor.holder
    save_floor(floor)
    local event = { t = 'floor', epoch = text(floor.epoch), cause = cause }
    if holder then
        event.holder = owner_of(holder)
        event.node = holder.node
        event.taken = text(holder.taken)
        event.lease = text(holder.lease)
    end
    if last.holder then
        event.previous = owner_of(last.holder)
    end
    if trace and trace ~= '' then
        event.trace = trace
    end
    announce(event)
    return floor
end

local function change(last, holder, cause)
    return keep_change(last, { epoch = math.max(last.epoch + 1, now_ms), holder = holder }, cause)
end

local function free(floor, cause)
    return change(floor, nil, cause)
end

local function is_same_connection(a, b)
    return a.connection == b.connection and a.user == b.user
end

-- The floor with the holder's new gateway, if this connection is the holder.
local function moved(floor, owner)
    local holder = floor.holder
    if holder and is_same_connection(holder, owner) and holder.gateway ~= owner.gateway then
        holder.gateway = owner.gateway
        save_floor(floor)
    end
    return floor
end

-- The fence: a connection that has moved on is not the old gateway's any more.
local function is_held_through(floor, owner)
    local holder = floor.holder
    return holder and is_same_connection(holder, owner) and holder.gateway == owner.gateway
end

local function extend(floor, node)
    floor.holder.node = node
    floor.holder.lease = longest_lease(floor.holder.taken)
    save_floor(floor)
    return floor
end

-- The floor with its times corrected after a clock that was set back, kept like that.
local function current_floor()
    local floor = load_floor()
    local holder = floor.holder
    if holder then
        local taken = math.min(holder.taken, now_ms)
        local lease = math.min(holder.lease, longest_lease(taken))
        if taken ~= holder.taken or lease ~= holder.lease then
            holder.taken, holder.lease = taken, lease
            save_floor(floor)
        end
    end
    return floor
end
