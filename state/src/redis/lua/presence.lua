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

-- The number of users and the version of that number, as a join is answered.
local function roster()
    return { user_count(), redis.call('HGET', KEYS[1], 'roster') or '0' }
end

-- The version is kept beside the floor's epoch, and is forgotten with it: the clock alone then carries it on.
local function announce_member(owner, action)
    local last = tonumber(redis.call('HGET', KEYS[1], 'roster')) or 0
    local version = text(math.max(last + 1, now_ms))
    redis.call('HSET', KEYS[1], 'roster', version)
    redis.call('PEXPIRE', KEYS[1], FORGOTTEN_AFTER_MS)
    announce({ t = 'member', member = owner_of(owner), action = action, users = user_count(), version = version })
end

-- Since when a connection is its gateway's: of two that both take it for theirs, the later is right. Grows like a version.
local function since(member)
    return tonumber(member and member.since) or 0
end

-- Takes the connection's floor along: it outlives a membership, and may be another gateway's still.
local function keep_member(owner, since_ms)
    owner.since = text(since_ms)
    redis.call('HSET', KEYS[3], owner.connection, cjson.encode(owner))
    moved(current_floor(), owner)
end

local function add_member(owner, since_ms)
    local connections = connections_of(owner.user)
    keep_member(owner, since_ms)
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

local function leave_floor(owner)
    local floor = current_floor()
    if is_held_through(floor, owner) then
        free(floor, 'left')
    end
end

-- Who a connection is here; nil: no member.
local function member_of(connection)
    local json = redis.call('HGET', KEYS[3], connection)
    return json and cjson.decode(json)
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
