-- Who is on a channel. Put after channel.lua and in front of the scripts that change it.

local function user_count()
    return redis.call('HLEN', KEYS[4])
end

-- How many connections a user has here, and its name.
local function connections_of(user)
    local kept = redis.call('HGET', KEYS[4], user)
    if not kept then
        return 0, nil
    end
    local count, name = string.match(kept, '^(%d+):(.*)$')
    return tonumber(count), name
end

local function announce_member(owner, action)
    announce({ t = 'member', member = owner, action = action, users = user_count() })
end

local function add_member(owner)
    local connections = connections_of(owner.user)
    redis.call('HSET', KEYS[3], owner.connection, cjson.encode(owner))
    redis.call('HSET', KEYS[4], owner.user, (connections + 1) .. ':' .. owner.name)
    if connections == 0 then
        announce_member(owner, 'joined')
    end
end

-- A user is gone with the last connection.
local function remove_member(owner, action)
    redis.call('HDEL', KEYS[3], owner.connection)
    local connections, name = connections_of(owner.user)
    if connections > 1 then
        redis.call('HSET', KEYS[4], owner.user, (connections - 1) .. ':' .. name)
    elseif redis.call('HDEL', KEYS[4], owner.user) == 1 then
        announce_member(owner, action)
    end
end

local function leave_floor(connection)
    local floor = current_floor()
    if floor.holder and floor.holder.connection == connection then
        free(floor, 'left')
    end
end

-- The members that a gateway has here, in the order of their connections: what a script does must not hang on the order
-- in which a hash happens to be kept.
local function members_of(gateway)
    local members = {}
    local kept = redis.call('HVALS', KEYS[3])
    for _, json in ipairs(kept) do
        local owner = cjson.decode(json)
        if owner.gateway == gateway then
            members[#members + 1] = owner
        end
    end
    table.sort(members, function(a, b) return a.connection < b.connection end)
    return members
end
