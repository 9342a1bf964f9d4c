//! L2: one flight of commands to Valkey, and the scripts that guard copies.
//!
//! Knows commands and scripts. Does not know which keys there are, nor what
//! the values mean.
//!
//! A copy of database rows lives in one hash per key: field `v:<variant>` holds
//! `<read time> <checksum><body>`, `l:<variant>` the lease of the one that may fill it,
//! `b:<token>` a writer that blocks fills until its invalidation. Copies that a
//! change makes old together, whatever their keys are, are a *family*: one more
//! key has the time since which they count. All times are the Valkey server's,
//! so that clocks of isolates never meet.

use std::pin::pin;

use bytes::Bytes;
use futures_util::future::{Either, select};

use super::shared;
use crate::checksum::{CHECKSUM_BYTES, checksum};
use crate::error::{Error, Fault, Store};
use crate::host::Host;
use crate::limits::{COPY_AGE_MS_MAX, STALE_IF_ERROR_S_MAX, TOUCHED_BYTES_MAX};
use crate::mutation::{self, Mutation};
use crate::settings::{Settings, Valkey};
use crate::transport::Link;
use crate::wire::resp::{Command, Connection, Reply};

/// Room for a script's short arguments and for the lengths of all.
const ARGUMENTS_BYTES: usize = 256;

/// After this long another one may take the lease.
pub const LEASE_MS: u64 = 5_000;

/// A script that begins with the server's time, in ms, in `now`.
macro_rules! with_now {
    ($script:literal) => {
        concat!(
            "local t=redis.call('TIME') local now=t[1]*1000+math.floor(t[2]/1000) ",
            $script
        )
    };
}

/// KEYS: hash, and its family if it has one. ARGV: variant, token, lease ms, age ms
/// from which a body is to be refreshed, the same of an absence, and the time by
/// which a copy was read that counts for none. Answers `{age, body, lease, now}`:
/// age -1 when there is no copy, lease 1 when it was given, 0 when it was not asked
/// for or another has it, -1 when a writer blocks fills. A lease from before the
/// family's time is none: what its holder fills would count for none.
const READ: &str = with_now!(
    "local age,body,since=-1,'',0 \
if KEYS[2] then since=tonumber(redis.call('GET',KEYS[2]) or 0) or 0 if since>now then since=0 end end \
local v=redis.call('HGET',KEYS[1],'v:'..ARGV[1]) \
if v then local s,b=string.match(v,'^(%d+) (.*)$') \
if s and now>=tonumber(s) and tonumber(s)>math.max(since,tonumber(ARGV[6])) then age=now-s body=b end end \
if age>=0 and age<tonumber(body=='' and ARGV[5] or ARGV[4]) then return {age,body,0,now} end \
for _,f in ipairs(redis.call('HKEYS',KEYS[1])) do if string.sub(f,1,2)=='b:' \
and now<tonumber(redis.call('HGET',KEYS[1],f)) then return {age,body,-1,now} end end \
local l=redis.call('HGET',KEYS[1],'l:'..ARGV[1]) \
if l then local s=string.match(l,'^(%d+) ') \
if s and now>=tonumber(s) and tonumber(s)>since and now-s<tonumber(ARGV[3]) then return {age,body,0,now} end end \
redis.call('HSET',KEYS[1],'l:'..ARGV[1],string.format('%.0f',now)..' '..ARGV[2]) \
if redis.call('PTTL',KEYS[1])<tonumber(ARGV[3]) then redis.call('PEXPIRE',KEYS[1],ARGV[3]) end \
return {age,body,1,now}"
);

/// KEYS: hash. ARGV: variant, token, body, for how many ms to keep it. Stored
/// under the lease's time: the truth was read after that.
const FILL: &str = "local l=redis.call('HGET',KEYS[1],'l:'..ARGV[1]) \
if not l then return 0 end local s,o=string.match(l,'^(%d+) (.*)$') \
if o~=ARGV[2] then return 0 end \
redis.call('HDEL',KEYS[1],'l:'..ARGV[1]) redis.call('HSET',KEYS[1],'v:'..ARGV[1],s..' '..ARGV[3]) \
if redis.call('PTTL',KEYS[1])<tonumber(ARGV[4]) then redis.call('PEXPIRE',KEYS[1],ARGV[4]) end return 1";

/// KEYS: hashes. ARGV: token, block ms (0 releases). Empties each hash but for
/// the blocks of other writers.
const INVALIDATE: &str = with_now!(
    "for _,k in ipairs(KEYS) do \
for _,f in ipairs(redis.call('HKEYS',k)) do if string.sub(f,1,2)~='b:' or f=='b:'..ARGV[1] then redis.call('HDEL',k,f) end end \
if tonumber(ARGV[2])>0 then redis.call('HSET',k,'b:'..ARGV[1],string.format('%.0f',now+ARGV[2])) \
if redis.call('PTTL',k)<tonumber(ARGV[2]) then redis.call('PEXPIRE',k,ARGV[2]) end end end return 1"
);

/// KEYS: family. ARGV: for how many ms to remember it. From now on no copy of the
/// family counts that was read before.
const OUTDATE: &str =
    with_now!("redis.call('SET',KEYS[1],string.format('%.0f',now),'PX',ARGV[1]) return 1");

/// KEYS: session. ARGV: TTL s, now ms, longest text that is changed. Sets the top-level `lastAccessed` of a
/// JSON object in the text itself, so that every other byte stays (a parse
/// and print in Lua would turn `[]` into `{}` and round doubles).
const TOUCH: &str = r#"local s=redis.call('GET',KEYS[1]) if not s then return 0 end
if #s>tonumber(ARGV[3]) then redis.call('EXPIRE',KEYS[1],ARGV[1]) return 1 end
local i,n,d=1,#s,0 local from,to,empty=nil,nil,true
local function str(p) local q=p+1 while true do local c=string.find(s,'["\\]',q) if not c then return n end
if string.byte(s,c)==34 then return c end q=c+2 end end
if string.match(s,'^%s*{') then
while true do local p=string.find(s,'["%[%]{}]',i) if not p then break end
local c=string.sub(s,p,p)
if c=='"' then local e=str(p) if d==1 then empty=false
if string.sub(s,p,e)=='"lastAccessed"' then local v=string.match(s,'^%s*:%s*()',e+1)
if v then from=v local w=string.sub(s,v,v)
if w=='"' then to=str(v) i=to+1
elseif w=='{' or w=='[' then local x,y=0,v
while true do local z=string.find(s,'["%[%]{}]',y) if not z then to=n break end local k=string.sub(s,z,z)
if k=='"' then y=str(z)+1 else if k=='{' or k=='[' then x=x+1 else x=x-1 end y=z+1 if x==0 then to=z break end end end i=to+1
else to=string.match(s,'^[^%s,}]*()',v)-1 i=to+1 end
else i=e+1 end else i=e+1 end else i=e+1 end
elseif c=='{' or c=='[' then d=d+1 i=p+1 if d>1 then empty=false end
else d=d-1 if d==0 then
if from then s=string.sub(s,1,from-1)..ARGV[2]..string.sub(s,to+1)
else s=string.sub(s,1,p-1)..(empty and '' or ',')..'"lastAccessed":'..ARGV[2]..string.sub(s,p) end
break end i=p+1 end end end
redis.call('SET',KEYS[1],s,'EX',ARGV[1]) return 1"#;

fn script(text: &str, keys: &[&str]) -> Command {
    // What follows is short, but for what is filled.
    let keys_bytes: usize = keys.iter().map(|key| key.len()).sum();
    let command = Command::with_room("EVAL", text.len() + keys_bytes + ARGUMENTS_BYTES);
    let command = command.arg(text).number(keys.len() as u64);
    keys.iter().fold(command, |command, key| command.arg(key))
}

pub fn touch(key: &str, ttl_s: u64, now_ms: u64) -> Command {
    script(TOUCH, &[key])
        .number(ttl_s)
        .number(now_ms)
        .number(TOUCHED_BYTES_MAX)
}

/// What a read of a copy found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Copy {
    /// With its age in ms; the body None is a remembered absence.
    pub found: Option<(u64, Option<Bytes>)>,
    pub lease: Lease,
    /// What the server's clock shows.
    pub now_ms: u64,
}

/// Who may fill.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lease {
    /// The one that asked.
    Granted,
    /// Another one, or nobody has to.
    NotGranted,
    /// Nobody while a write is under way.
    Blocked,
}

/// Asks for a copy, and for the lease when there is none that is younger than
/// `refresh_ms` (of a body, of an absence). One that was read by `after_ms` of
/// the server's clock counts for none, nor one from before its family's time.
pub fn read_copy(
    (key, family): (&str, Option<&str>),
    variant: &str,
    token: &str,
    refresh_ms: (u64, u64),
    after_ms: u64,
) -> Command {
    let command = match family {
        Some(family) => script(READ, &[key, family]),
        None => script(READ, &[key]),
    };
    command
        .arg(variant)
        .arg(token)
        .number(LEASE_MS)
        .number(refresh_ms.0)
        .number(refresh_ms.1)
        .number(after_ms)
}

/// The answer to [`read_copy`]; None: it is not one. Copies are sent to callers as they
/// are: one that is not what an edge has filled is none.
pub fn copy(reply: &Reply) -> Option<Copy> {
    let Reply::Array(parts) = reply else {
        return None;
    };
    let [
        Reply::Integer(age_ms),
        Reply::Bulk(body),
        Reply::Integer(lease),
        Reply::Integer(now_ms),
    ] = parts.as_slice()
    else {
        return None;
    };
    let found = u64::try_from(*age_ms).ok().and_then(|age_ms| {
        if body.is_empty() {
            return Some((age_ms, None));
        }
        let (sum, body) = body.split_at_checked(CHECKSUM_BYTES)?;
        let is_whole = !body.is_empty() && sum == checksum(body).as_bytes();
        // A reply shares the buffer that it was read into.
        is_whole.then(|| (age_ms, Some(Bytes::copy_from_slice(body))))
    });
    Some(Copy {
        found,
        lease: match lease {
            1 => Lease::Granted,
            0 => Lease::NotGranted,
            _ => Lease::Blocked,
        },
        now_ms: u64::try_from(*now_ms).ok()?,
    })
}

/// Fills under a lease; a lease that was lost fills nothing. An empty body is an absence.
pub fn fill_copy(key: &str, variant: &str, token: &str, body: &[u8], keep_ms: u64) -> Command {
    let text = if mutation::is(Mutation::FillNeedsNoLease) {
        "local t=redis.call('TIME') redis.call('HSET',KEYS[1],'v:'..ARGV[1],\
        string.format('%.0f',t[1]*1000+math.floor(t[2]/1000))..' '..ARGV[3]) return 1"
    } else {
        FILL
    };
    script(text, &[key])
        .arg(variant)
        .arg(token)
        .arg(checked(body))
        .number(keep_ms)
}

/// As it is kept.
fn checked(body: &[u8]) -> Vec<u8> {
    if body.is_empty() {
        return Vec::new();
    }
    [checksum(body).as_bytes(), body].concat()
}

/// Blocks fills of the keys until [`release`], at most for `block_ms`, and
/// empties them.
pub fn block(keys: &[String], token: &str, block_ms: u64) -> Command {
    invalidate(keys, token, block_ms)
}

/// Empties the keys once more and lets fills through again.
pub fn release(keys: &[String], token: &str) -> Command {
    invalidate(keys, token, 0)
}

/// Lets no copy of a family count that has been read by now.
pub fn outdate(family: &str) -> Command {
    // Longer than any copy answers.
    let remembered_ms = COPY_AGE_MS_MAX + STALE_IF_ERROR_S_MAX * 1000;
    script(OUTDATE, &[family]).number(remembered_ms)
}

fn invalidate(keys: &[String], token: &str, block_ms: u64) -> Command {
    let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
    script(INVALIDATE, &keys).arg(token).number(block_ms)
}

/// Sends one flight of commands, in one round trip: over a connection that was
/// kept, together with those of other requests, or over a new one together with
/// the log-in.
///
/// # Errors
/// Valkey is not set up, cannot be reached, is too slow, or breaks its protocol.
pub async fn ask<H: Host>(
    host: &H,
    settings: &Settings,
    commands: Vec<Command>,
    deadline_ms: u64,
) -> Result<Vec<Reply>, Error> {
    let valkey = settings.valkey()?;
    let failed = |fault| Error::Store(Store::Valkey, fault);
    let exchange = async {
        if let Some(kept) = host.kept() {
            let outcome = if shared::may_share(&commands) {
                kept.departures.ask(host, valkey, commands.clone()).await
            } else {
                fly(host, valkey, commands.clone()).await
            };
            match outcome {
                // Closed while it was idle, most likely, which we learn only now. What each
                // of our commands leaves behind is the same when it runs once more.
                Err(Fault::Unreachable(_)) => {}
                outcome => return outcome,
            }
        }
        let link = open(host, valkey).await?;
        exchange(host, link, commands).await
    };
    match select(pin!(exchange), pin!(host.sleep(deadline_ms))).await {
        Either::Left((outcome, _)) => outcome.map_err(failed),
        Either::Right(_) => Err(failed(Fault::TimedOut)),
    }
}

/// One flight over a connection that was kept, or a new one.
pub(super) async fn fly<H: Host>(
    host: &H,
    valkey: &Valkey,
    commands: Vec<Command>,
) -> Result<Vec<Reply>, Fault> {
    let kept = host.kept().and_then(|kept| kept.valkey.take(host.now_ms()));
    let link = match kept {
        Some(link) => link,
        None => open(host, valkey).await?,
    };
    exchange(host, link, commands).await
}

async fn open<H: Host>(host: &H, valkey: &Valkey) -> Result<Link<H, Connection>, Fault> {
    let machine = Connection::new(valkey.login.clone());
    Link::open(host, &valkey.address, valkey.tls, machine).await
}

async fn exchange<H: Host>(
    host: &H,
    mut link: Link<H, Connection>,
    commands: Vec<Command>,
) -> Result<Vec<Reply>, Fault> {
    link.machine.submit(commands);
    link.run(host).await?;
    let replies = link
        .machine
        .take_replies()
        .ok_or_else(|| Fault::Unavailable("the flight has no replies".to_owned()))?;
    if let Some(kept) = host.kept() {
        kept.valkey.give(link, host.now_ms());
    }
    Ok(replies)
}

/// An error reply as an error: the store is there and cannot serve.
pub fn refused(reply: &Reply) -> Error {
    let why = match reply {
        Reply::Error(error) => error.to_string(),
        _ => "an unexpected reply".to_owned(),
    };
    Error::Store(Store::Valkey, Fault::Unavailable(why))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(body: Vec<u8>) -> Reply {
        Reply::Array(vec![
            Reply::Integer(7),
            Reply::Bulk(body.into()),
            Reply::Integer(0),
            Reply::Integer(1_000),
        ])
    }

    #[test]
    fn a_copy_is_found_as_it_was_filled_and_in_no_other_state() {
        for body in ["", "[]", r#"[{"a":1}]"#] {
            let filled = checked(body.as_bytes());
            let found = copy(&answer(filled.clone())).and_then(|copy| copy.found);
            let body = (!body.is_empty()).then(|| Bytes::from(body));
            assert_eq!(found, Some((7, body)));
            for place in 0..filled.len() {
                let mut damaged = filled.clone();
                damaged[place] ^= 1;
                let shorter = filled.get(..place).filter(|left| !left.is_empty());
                for wrong in [Some(damaged.as_slice()), shorter].into_iter().flatten() {
                    let copy = copy(&answer(wrong.to_vec())).unwrap();
                    assert_eq!(copy.found, None, "{place}");
                }
            }
        }
    }
}
