"""The atomic operations of a queue, as scripts of the server.

A queue has five keys, passed to every script in this order:

1. the marker, present while the queue exists;
2. the schedule: a sorted set of message ids by the time (microseconds, the server's clock) from which it may be
   delivered. Leasing a message moves it to the expiry of its lease, releasing it moves it back;
3. the bodies, 4. the delivery counts, 5. the current leases: hashes by message id.

A lease is named ``<message id>:<delivery count>``; it is valid while the fifth key contains it.
"""

from __future__ import annotations

__all__ = ["COUNT", "EXTEND", "LEASE", "PURGE", "REMOVE", "SEND"]

_NOW = """
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
"""

_GUARD = """
if redis.call('EXISTS', KEYS[1]) == 0 then return redis.error_reply('NOQUEUE queue does not exist') end
"""

_HELD = """
local function id_of(lease)
  local id = string.match(lease, '^(.*):%d+$')
  if id and redis.call('HGET', KEYS[5], id) == lease then return id end
end
"""

# ARGV: delay, then id and body of each message. An existing id was sent before, and its response was lost.
SEND = (
    _GUARD
    + _NOW
    + """
for i = 2, #ARGV, 2 do
  redis.call('HSET', KEYS[3], ARGV[i], ARGV[i + 1])
  redis.call('ZADD', KEYS[2], 'NX', string.format('%.0f', now + ARGV[1]), ARGV[i])
end
"""
)

# ARGV: maximum number, lease. Returns lease, body, count of each message.
LEASE = (
    _GUARD
    + _NOW
    + """
local answer = {}
local ids = redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', string.format('%.0f', now), 'LIMIT', 0, ARGV[1])
for _, id in ipairs(ids) do
  local count = redis.call('HINCRBY', KEYS[4], id, 1)
  local lease = id .. ':' .. count
  redis.call('HSET', KEYS[5], id, lease)
  redis.call('ZADD', KEYS[2], string.format('%.0f', now + ARGV[2]), id)
  answer[#answer + 1] = lease
  answer[#answer + 1] = redis.call('HGET', KEYS[3], id)
  answer[#answer + 1] = count
end
return answer
"""
)

# ARGV: leases. Returns the lost ones.
REMOVE = (
    _HELD
    + """
local lost = {}
for _, lease in ipairs(ARGV) do
  local id = id_of(lease)
  if id then
    redis.call('ZREM', KEYS[2], id)
    for key = 3, 5 do redis.call('HDEL', KEYS[key], id) end
  else
    lost[#lost + 1] = lease
  end
end
return lost
"""
)

# ARGV: delay, whether the lease continues (1) or ends (0), leases. Returns the lost ones.
EXTEND = (
    _HELD
    + _NOW
    + """
local lost = {}
for i = 3, #ARGV do
  local id = id_of(ARGV[i])
  if id then
    redis.call('ZADD', KEYS[2], string.format('%.0f', now + ARGV[1]), id)
    if ARGV[2] == '0' then redis.call('HDEL', KEYS[5], id) end
  else
    lost[#lost + 1] = ARGV[i]
  end
end
return lost
"""
)

PURGE = _GUARD + "redis.call('DEL', KEYS[2], KEYS[3], KEYS[4], KEYS[5])"

# Returns the number of visible messages, the number leased or delayed, and the server's time.
COUNT = (
    _GUARD
    + _NOW
    + """
local visible = redis.call('ZCOUNT', KEYS[2], '-inf', string.format('%.0f', now))
return {visible, redis.call('ZCARD', KEYS[2]) - visible, string.format('%.0f', now)}
"""
)
