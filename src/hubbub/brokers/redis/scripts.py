"""The scripts that do what has to happen as one step, within the server.

A stream is two keys. `meta` is a hash with its `epoch`, its `top` offset, the last version, and in
`run` and `place` which server process wrote it last; it has the TTL of epoch and offset. `log` is a
Redis stream whose ids are the offsets; it has the TTL of the publications, and means nothing
without `meta`.

Whether what a server has is what it had: a process that was restarted from a snapshot, or a replica
that was promoted, may lack the last publications, and would give out their offsets again, in the
same epoch: nobody could tell. So a script that finds a stream of another process begins it anew,
unless its caller knows that nothing can have been lost (`Epochs`).

Numbers: offsets are exact up to 2^53 in Lua, which is 285 years of a million publications a second.
Versions may be larger, so they are compared as text of 20 digits.

Nothing is written before what a full or read-only server refuses, so that a refusal changes
nothing.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

__all__ = [
    "ADD_PRESENCE",
    "CANARY",
    "COUNT_PRESENCE",
    "HISTORY",
    "PRESENCE",
    "PUBLISH",
    "REMOVE_PRESENCE",
    "SCRIPTS",
    "Script",
]


@dataclass(frozen=True, slots=True)
class Script:
    """A script, and the name by which the server knows it.

    Attributes:
        keys: Number of its keys, which come before its arguments.
        of_stream: Its first arguments are the server process, its place, and whether streams
            survive a change of the process: what the link knows.
    """

    source: bytes
    keys: int
    of_stream: bool = False
    sha: bytes = field(init=False)

    def __post_init__(self) -> None:
        """Compute the name."""
        sha = hashlib.sha1(self.source, usedforsecurity=False).hexdigest()
        object.__setattr__(self, "sha", sha.encode())


_STREAM = b"""
-- Return the epoch and top of the stream, whether it has yet to be begun, and whether it was
-- last written by another process.
local function find(meta, fresh, run, place, lossless)
  local m = redis.call('HMGET', meta, 'epoch', 'top', 'run', 'place')
  if m[1] and (m[3] == run or (lossless == '1' and m[4] == place)) then
    return m[1], tonumber(m[2]), false, m[3] ~= run
  end
  return fresh, 0, true, true
end

local function text(number)
  return string.format('%.0f', number)
end
"""

PUBLISH = Script(
    _STREAM
    + b"""
-- KEYS: meta, log, key of the idempotency key
-- ARGV: run, place, lossless, body, topic, publishing command, fresh epoch, size, ttl, meta ttl,
--       ttl of the idempotency key or '', version or '', version epoch
local once = ARGV[11] ~= ''
if once then
  local first = redis.call('GET', KEYS[3])
  if first then
    local space = string.find(first, ' ', 1, true)
    return {string.sub(first, 1, space - 1), string.sub(first, space + 1)}
  end
end
if ARGV[8] == '0' then
  if once then
    redis.call('SET', KEYS[3], ' 0', 'PX', ARGV[11])
  end
  redis.call(ARGV[6], ARGV[5], 'q' .. ARGV[4])
  return {'', '0'}
end
local epoch, top, new, moved = find(KEYS[1], ARGV[7], ARGV[1], ARGV[2], ARGV[3])
local accepted = true
if ARGV[12] ~= '' and not new then
  local last = redis.call('HMGET', KEYS[1], 'version', 'version_epoch')
  if last[1] and (ARGV[13] == '' or ARGV[13] == last[2]) and ARGV[12] <= last[1] then
    accepted = false
  end
end
if accepted then
  top = top + 1
end
local offset = text(top)
if accepted then
  if new then
    -- Before the DEL: a server without memory refuses this one, and nothing has changed.
    redis.call('HSET', KEYS[1], 'run', ARGV[1])
    redis.call('DEL', KEYS[1], KEYS[2])
    redis.call('HSET', KEYS[1], 'epoch', epoch)
  end
  redis.call('XADD', KEYS[2], 'MAXLEN', '=', ARGV[8], offset .. '-0', 'b', ARGV[4])
  redis.call('PEXPIRE', KEYS[2], ARGV[9])
  if ARGV[12] ~= '' then
    redis.call('HSET', KEYS[1], 'version', ARGV[12], 'version_epoch', ARGV[13])
  end
  redis.call('HSET', KEYS[1], 'top', offset, 'run', ARGV[1], 'place', ARGV[2])
elseif moved then
  redis.call('HSET', KEYS[1], 'run', ARGV[1], 'place', ARGV[2])
end
redis.call('PEXPIRE', KEYS[1], ARGV[10])
if once then
  redis.call('SET', KEYS[3], epoch .. ' ' .. offset, 'PX', ARGV[11])
end
if accepted then
  redis.call(ARGV[6], ARGV[5], 'p' .. epoch .. ' ' .. offset .. ' ' .. ARGV[4])
end
return {epoch, offset}
""",
    keys=3,
    of_stream=True,
)

HISTORY = Script(
    _STREAM
    + b"""
-- KEYS: meta, log
-- ARGV: run, place, lossless, fresh epoch, meta ttl, ttl of a stream without publications,
--       epoch that is wanted or '', command, from, to, limit or '', '0' for none at all
local epoch, top, new, moved = find(KEYS[1], ARGV[4], ARGV[1], ARGV[2], ARGV[3])
if new then
  redis.call('HSET', KEYS[1], 'run', ARGV[1])
  redis.call('DEL', KEYS[1], KEYS[2])
  redis.call('HSET', KEYS[1], 'epoch', epoch, 'top', '0', 'run', ARGV[1], 'place', ARGV[2])
elseif moved then
  redis.call('HSET', KEYS[1], 'run', ARGV[1], 'place', ARGV[2])
end
redis.call('PEXPIRE', KEYS[1], top > 0 and ARGV[5] or ARGV[6])
local entries = {}
if ARGV[11] ~= '0' and (ARGV[7] == '' or ARGV[7] == epoch) then
  if ARGV[11] == '' then
    entries = redis.call(ARGV[8], KEYS[2], ARGV[9], ARGV[10])
  else
    entries = redis.call(ARGV[8], KEYS[2], ARGV[9], ARGV[10], 'COUNT', ARGV[11])
  end
end
return {epoch, text(top), entries}
""",
    keys=2,
    of_stream=True,
)

_PRESENCE = b"""
local function now()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

local function count(users, packed, by)
  local colon = string.find(packed, ':', 1, true)
  local user = string.sub(packed, colon + 1, colon + tonumber(string.sub(packed, 1, colon - 1)))
  if redis.call('HINCRBY', users, user, by) <= 0 then
    redis.call('HDEL', users, user)
  end
end

local function drop(who, ends, users, client)
  local packed = redis.call('HGET', who, client)
  if packed then
    count(users, packed, -1)
    redis.call('HDEL', who, client)
  end
  redis.call('ZREM', ends, client)
end

-- Remove those whose time is over.
local function purge(who, ends, users)
  for _, client in ipairs(redis.call('ZRANGEBYSCORE', ends, '-inf', text_of(now()))) do
    drop(who, ends, users, client)
  end
end
""".replace(b"text_of(now())", b"string.format('%.0f', now())")

ADD_PRESENCE = Script(
    _PRESENCE
    + b"""
-- KEYS: who is there, when each ends, connections of each user
-- ARGV: client, info, ttl or ''
purge(KEYS[1], KEYS[2], KEYS[3])
local before = redis.call('HGET', KEYS[1], ARGV[1])
if before ~= ARGV[2] then
  redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
  if before then
    count(KEYS[3], before, -1)
  end
  count(KEYS[3], ARGV[2], 1)
end
if ARGV[3] == '' then
  redis.call('ZADD', KEYS[2], '+inf', ARGV[1])
else
  redis.call('ZADD', KEYS[2], string.format('%.0f', now() + ARGV[3]), ARGV[1])
end
local last = redis.call('ZREVRANGE', KEYS[2], 0, 0, 'WITHSCORES')[2]
for _, key in ipairs(KEYS) do
  if last == 'inf' then
    redis.call('PERSIST', key)
  else
    redis.call('PEXPIREAT', key, string.format('%.0f', last))
  end
end
""",
    keys=3,
)

REMOVE_PRESENCE = Script(
    _PRESENCE
    + b"""
-- KEYS: as above; ARGV: client
purge(KEYS[1], KEYS[2], KEYS[3])
drop(KEYS[1], KEYS[2], KEYS[3], ARGV[1])
""",
    keys=3,
)

PRESENCE = Script(
    _PRESENCE
    + b"""
purge(KEYS[1], KEYS[2], KEYS[3])
return redis.call('HGETALL', KEYS[1])
""",
    keys=3,
)

COUNT_PRESENCE = Script(
    _PRESENCE
    + b"""
purge(KEYS[1], KEYS[2], KEYS[3])
return {redis.call('HLEN', KEYS[1]), redis.call('HLEN', KEYS[3])}
""",
    keys=3,
)

CANARY = Script(
    b"""
-- KEYS: a key; ARGV: topic, publishing command, token, ttl
redis.call('SET', KEYS[1], ARGV[3], 'PX', ARGV[4])
redis.call(ARGV[2], ARGV[1], ARGV[3])
""",
    keys=1,
)
"""Writes as well: a replica publishes, but takes no writes."""

SCRIPTS = (PUBLISH, HISTORY, ADD_PRESENCE, REMOVE_PRESENCE, PRESENCE, COUNT_PRESENCE, CANARY)
