//! Valkey's Lua: what a script finds, what it must not do, and how it says so.
//! The edge's scripts change; these are the mistakes that they could have.

use anyhow::{Result, ensure};
use sim::stores::{Data, Stores};

use super::valkey::Pair;

/// With one key, which holds a string, and the argument `7`.
const SCRIPTS: [&str; 86] = [
    // Globals.
    "x=1",
    "return x",
    "local function f() y=1 end f()",
    "KEYS={} return 1",
    "_G.x=1",
    "return _G.x",
    "return print",
    "return dofile",
    "return loadfile",
    "return io",
    "return require",
    "return type(_G)..type(string)..type(table)..type(math)..type(redis)..type(server)",
    "return {type(loadstring),type(setmetatable),type(rawset),type(unpack),type(xpcall)}",
    "return loadstring('return 1+1')()",
    "return redis.x",
    // Numbers as arguments.
    "return {redis.call('SET',KEYS[1],1700000000000),redis.call('GET',KEYS[1])}",
    "return {redis.call('SET',KEYS[1],1700000000000.5),redis.call('GET',KEYS[1])}",
    "return {redis.call('SET',KEYS[1],4611686018427387904),redis.call('GET',KEYS[1])}",
    "return {redis.call('SET',KEYS[1],9.3e18),redis.call('GET',KEYS[1])}",
    "return {redis.call('SET',KEYS[1],1e22),redis.call('GET',KEYS[1])}",
    "return {redis.call('SET',KEYS[1],1.5e300),redis.call('GET',KEYS[1])}",
    "return {redis.call('SET',KEYS[1],0.1+0.2),redis.call('GET',KEYS[1])}",
    "return {redis.call('SET',KEYS[1],1e-5),redis.call('GET',KEYS[1])}",
    "return {redis.call('SET',KEYS[1],1e-7),redis.call('GET',KEYS[1])}",
    "return {redis.call('SET',KEYS[1],1.5e-7),redis.call('GET',KEYS[1])}",
    "return {redis.call('SET',KEYS[1],-0.00123456789),redis.call('GET',KEYS[1])}",
    "return {redis.call('SET',KEYS[1],12345678.123456789),redis.call('GET',KEYS[1])}",
    "return {redis.call('SET',KEYS[1],123456.789),redis.call('GET',KEYS[1])}",
    "return {redis.call('SET',KEYS[1],-0.0),redis.call('GET',KEYS[1])}",
    "return {redis.call('SET',KEYS[1],1/0),redis.call('GET',KEYS[1])}",
    "return {redis.call('SET',KEYS[1],-1/0),redis.call('GET',KEYS[1])}",
    // Numbers as answers, and as texts.
    "return {1e15,-1e15,2^53,0.5,-0.5}",
    "return 1e30",
    "return math.huge",
    "return -math.huge",
    "return tostring(12345678901234567)",
    "return 1700000000000 .. ''",
    "return string.format('%.0f',1700000000000+ARGV[1])",
    "return ARGV[1]+1",
    "return ARGV[1]*1000+math.floor('900000'/1000)",
    "return tonumber('0x10')+tonumber(' 5 ')",
    "return 1 .. 2, 3",
    // Tables as answers.
    "return {1,2.9,-2.9,'a',nil,5}",
    "return {1,x=2}",
    "return {{{}},{1,{2,{3}}}}",
    "return {1,err='MY mistake'}",
    "return {ok='A b\\r\\nc'}",
    "return {err='A b\\r\\nc'}",
    "return {ok=1}",
    "return {function() end,1}",
    "return function() end",
    "return {redis.call('HGETALL','none'),redis.call('HKEYS','none'),redis.call('HGET','none','f')}",
    "return {redis.call('PING'),redis.call('EXISTS',KEYS[1]),redis.call('GET','none')}",
    "return redis.call('GET','none')==false",
    "return redis.call('SET',KEYS[1],'x').ok",
    "return #redis.call('TIME')",
    // Errors that are raised, and that are caught.
    "error('boom')",
    "error('boom',0)",
    "error({err='MY boom'})",
    "error({})",
    "error()",
    "error(12)",
    "local t=nil return t.x",
    "\nlocal t=nil\nreturn t.x",
    "local t={} return t.x.y",
    "return nil .. 'a'",
    "return {} < {}",
    "return #nil",
    "local function f(n) return f(n+1)+1 end return f(1)",
    "\nlocal function f() redis.call('HGET',KEYS[1],'a') end\n\nf()",
    "local ok,e=pcall(redis.call,'GET') return {tostring(ok),e}",
    "local ok,e=pcall(function() redis.call('HGET',KEYS[1],'a') end) return {tostring(ok),type(e),e}",
    "local ok,e=pcall(function() error('x') end) return e",
    "local ok,e=pcall(function() error({err='MY x'}) end) return e",
    "return {pcall(function(...) return ... end,1,2)}",
    "local r=redis.pcall('HGET',KEYS[1],'a') return {r.err,type(r)}",
    "local r=redis.pcall('HGET',KEYS[1],'a') return r",
    "return redis.error_reply('boom')",
    "return redis.error_reply('-MY boom')",
    "return redis.pcall('NOPE')",
    "redis.call('SET',KEYS[1],'w') error('after')",
    "redis.call('AUTH','x')",
    "redis.call('HELLO')",
    "redis.call('SCRIPT','LOAD','return 1')",
    "return redis.sha1hex('a')",
    "return (nil",
];

#[tokio::test]
async fn scripts_find_and_say_what_they_do_in_the_real_one() -> Result<()> {
    let stores = Stores::start(&Data::ThrowAway).await?;
    let mut pair = Pair::connect(&stores)?;
    let mut differences = Vec::new();
    for hello in [b"2", b"3"] {
        pair.version(hello)?;
        for script in SCRIPTS {
            pair.compare_words(&[b"SET", b"k", b"before"])?;
            let words: [&[u8]; 5] = [b"EVAL", script.as_bytes(), b"1", b"k", b"7"];
            differences.extend(pair.compare_words(&words).err());
            // What was written before an error stays.
            pair.compare_words(&[b"GET", b"k"])?;
        }
    }
    let told: Vec<String> = differences.iter().map(ToString::to_string).collect();
    ensure!(told.is_empty(), "{}", told.join("\n"));
    Ok(())
}

#[tokio::test]
async fn scripts_are_found_by_their_hash() -> Result<()> {
    const SHA1: &[u8] = b"e0e1f9fabfc9d4800c877a703b823ac0578ff8db";
    let stores = Stores::start(&Data::ThrowAway).await?;
    let mut pair = Pair::connect(&stores)?;
    let load: [&[u8]; 3] = [b"SCRIPT", b"LOAD", b"return 1"];
    for words in [
        &[b"EVALSHA".as_slice(), SHA1, b"0"][..],
        &[b"SCRIPT", b"EXISTS", SHA1],
        &load,
        &[b"EVALSHA", SHA1, b"0"],
        &[b"EVALSHA", &SHA1.to_ascii_uppercase(), b"0"],
        &[b"EVALSHA", b"e0", b"0"],
        &[b"EVALSHA", SHA1, b"-1"],
        &[b"EVALSHA", SHA1],
        &[b"SCRIPT", b"EXISTS", SHA1, b"x"],
        &[b"SCRIPT", b"FLUSH"],
        &[b"EVALSHA", SHA1, b"0"],
        // EVAL makes it known too.
        &[b"EVAL", b"return 1", b"0"],
        &[b"EVALSHA", SHA1, b"0"],
        &[b"SCRIPT", b"LOAD", b"return ("],
        &[b"SCRIPT", b"LOAD"],
        &[b"SCRIPT", b"NONE"],
        &[b"SCRIPT"],
    ] {
        pair.compare_words(words)?;
    }
    Ok(())
}
