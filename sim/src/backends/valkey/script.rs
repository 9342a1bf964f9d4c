//! EVAL: the real text of a script, run by the Lua that the server has inside.
//!
//! Knows how values cross between Lua and RESP ("Scripting with Lua", "Data
//! type conversion"). Does not know commands. Left out: the server's guard
//! against global variables, and its libraries (`cjson`, `struct`, `bit`).

use std::cell::RefCell;
use std::collections::HashMap;
use std::fmt;
use std::rc::Rc;

use mlua::{Function, Lua, MultiValue, Table, Value as LuaValue};

use super::commands::{Does, command, integer};
use super::keyspace::Keyspace;
use super::reply::Reply;

/// The name under which the server compiles a script, as its errors show it.
const CHUNK: &str = "@user_script";

struct Script {
    function: Function,
    /// By which the server's errors name it.
    sha1: String,
}

pub(super) struct Scripts {
    lua: Lua,
    by_text: HashMap<Vec<u8>, Script>,
}

/// An error that `redis.call` raises: its text, and the script's line.
#[derive(Debug)]
struct Raised {
    text: Vec<u8>,
    line: Option<usize>,
}

impl fmt::Display for Raised {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&String::from_utf8_lossy(&self.text))
    }
}

impl std::error::Error for Raised {}

impl Scripts {
    pub fn new(keyspace: &Rc<RefCell<Keyspace>>) -> mlua::Result<Self> {
        let lua = Lua::new();
        let api = lua.create_table()?;
        let shared = Rc::clone(keyspace);
        api.raw_set(
            "call",
            lua.create_function(move |lua, arguments: MultiValue| {
                match called(&shared, &arguments) {
                    Reply::Error(text) => Err(raised(lua, text)),
                    reply => to_lua(lua, reply),
                }
            })?,
        )?;
        let shared = Rc::clone(keyspace);
        api.raw_set(
            "pcall",
            lua.create_function(move |lua, arguments: MultiValue| {
                to_lua(lua, called(&shared, &arguments))
            })?,
        )?;
        for (name, field) in [("error_reply", "err"), ("status_reply", "ok")] {
            api.raw_set(
                name,
                lua.create_function(move |lua, text: mlua::String| single(lua, field, text))?,
            )?;
        }
        for name in ["redis", "server"] {
            lua.globals().raw_set(name, &api)?;
        }
        Ok(Self {
            lua,
            by_text: HashMap::new(),
        })
    }

    /// Arguments as in `EVAL script numkeys key ... arg ...`.
    pub fn evaluate(&mut self, keyspace: &RefCell<Keyspace>, arguments: &[&[u8]]) -> Reply {
        let [_, text, keys, rest @ ..] = arguments else {
            return Reply::error("ERR wrong number of arguments for 'eval' command");
        };
        let Some(keys) = integer(keys) else {
            return Reply::error("ERR value is not an integer or out of range");
        };
        let Ok(keys) = usize::try_from(keys) else {
            return Reply::error("ERR Number of keys can't be negative");
        };
        let Some((keys, rest)) = rest.split_at_checked(keys) else {
            return Reply::error("ERR Number of keys can't be greater than number of args");
        };
        if let Err(complaint) = self.compile(text) {
            return complaint;
        }
        let Some(script) = self.by_text.get(*text) else {
            return Reply::Null;
        };
        keyspace.borrow_mut().script_wrote = false;
        let outcome = self
            .set_global("KEYS", keys)
            .and_then(|()| self.set_global("ARGV", rest))
            .and_then(|()| script.function.call::<LuaValue>(()));
        match outcome {
            Ok(value) => from_lua(&value),
            Err(error) => failed(&error, &script.sha1),
        }
    }

    fn compile(&mut self, text: &[u8]) -> Result<(), Reply> {
        if self.by_text.contains_key(text) {
            return Ok(());
        }
        let chunk = self.lua.load(text).set_name(CHUNK);
        let chunk = chunk.set_mode(mlua::ChunkMode::Text);
        let function = chunk.into_function().map_err(|error| {
            Reply::error(format!(
                "ERR Error compiling script (new function): {}",
                words(&error)
            ))
        })?;
        let sha1 = sha1_smol::Sha1::from(text).digest().to_string();
        self.by_text
            .insert(text.to_vec(), Script { function, sha1 });
        Ok(())
    }

    fn set_global(&self, name: &str, values: &[&[u8]]) -> mlua::Result<()> {
        let table = self.lua.create_table_with_capacity(values.len(), 0)?;
        for value in values {
            table.raw_push(self.lua.create_string(value)?)?;
        }
        self.lua.globals().raw_set(name, table)
    }
}

/// What `redis.call` was given, done.
fn called(keyspace: &RefCell<Keyspace>, arguments: &MultiValue) -> Reply {
    let mut given: Vec<Vec<u8>> = Vec::with_capacity(arguments.len());
    for argument in arguments {
        given.push(match argument {
            LuaValue::String(text) => text.as_bytes().to_vec(),
            LuaValue::Integer(number) => number.to_string().into_bytes(),
            LuaValue::Number(number) => number_text(*number).into_bytes(),
            _ => {
                return Reply::error("ERR Command arguments must be strings or integers");
            }
        });
    }
    let given: Vec<&[u8]> = given.iter().map(Vec::as_slice).collect();
    let Some(name) = given.first() else {
        return Reply::error("ERR Please specify at least one argument for this call");
    };
    let Some(command) = command(name) else {
        return Reply::error("ERR Unknown command called from script");
    };
    if !command.takes(given.len()) {
        return Reply::error("ERR Wrong number of args calling command from script");
    }
    let Does::Keyspace(run) = command.does else {
        return Reply::error("ERR This Valkey command is not allowed from script");
    };
    let mut keyspace = keyspace.borrow_mut();
    match command.refusal_in_script(&mut keyspace) {
        Some(refusal) => Reply::error(refusal),
        None => run(&mut keyspace, &given),
    }
}

/// As the server writes a number for an argument: whole ones as integers,
/// others with 17 digits.
fn number_text(number: f64) -> String {
    if number.fract() == 0.0 && number.abs() < 9e18 {
        return format!("{}", number as i64);
    }
    format!("{number}")
}

fn raised(lua: &Lua, text: Vec<u8>) -> mlua::Error {
    // Level 0 is `redis.call`, level 1 who called it.
    let line = lua.inspect_stack(1, |frame| frame.current_line()).flatten();
    mlua::Error::external(Raised { text, line })
}

fn single(lua: &Lua, field: &str, text: mlua::String) -> mlua::Result<Table> {
    let table = lua.create_table_with_capacity(0, 1)?;
    table.raw_set(field, text)?;
    Ok(table)
}

/// "Valkey to Lua type conversion", in the older version of RESP.
fn to_lua(lua: &Lua, reply: Reply) -> mlua::Result<LuaValue> {
    Ok(match reply {
        Reply::Integer(number) => LuaValue::Number(number as f64),
        Reply::Bulk(bytes) => LuaValue::String(lua.create_string(bytes)?),
        Reply::Null => LuaValue::Boolean(false),
        Reply::Simple(text) => LuaValue::Table(single(lua, "ok", lua.create_string(text)?)?),
        Reply::Error(text) => LuaValue::Table(single(lua, "err", lua.create_string(text)?)?),
        Reply::Array(elements) => {
            let table = lua.create_table_with_capacity(elements.len(), 0)?;
            for element in elements {
                table.raw_push(to_lua(lua, element)?)?;
            }
            LuaValue::Table(table)
        }
        Reply::Map(members) => {
            let flat = members.into_iter().flat_map(<[Reply; 2]>::from).collect();
            to_lua(lua, Reply::Array(flat))?
        }
    })
}

/// "Lua to Valkey type conversion".
fn from_lua(value: &LuaValue) -> Reply {
    match value {
        LuaValue::String(text) => Reply::bulk(text.as_bytes()),
        LuaValue::Integer(number) => Reply::Integer(*number),
        // Cut, not rounded.
        LuaValue::Number(number) => Reply::Integer(*number as i64),
        LuaValue::Boolean(true) => Reply::Integer(1),
        LuaValue::Table(table) => from_table(table),
        _ => Reply::Null,
    }
}

fn from_table(table: &Table) -> Reply {
    let text = |field: &str| match table.raw_get(field) {
        Ok(LuaValue::String(text)) => Some(text.as_bytes().to_vec()),
        _ => None,
    };
    if let Some(error) = text("err") {
        return Reply::Error(error);
    }
    if let Some(status) = text("ok") {
        return Reply::Simple(status);
    }
    let mut elements = Vec::new();
    for place in 1_i64.. {
        match table.raw_get(place) {
            Ok(LuaValue::Nil) | Err(_) => break,
            Ok(value) => elements.push(from_lua(&value)),
        }
    }
    Reply::Array(elements)
}

/// The first sentence of an error of Lua, without what the crate adds.
fn words(error: &mlua::Error) -> String {
    match error {
        mlua::Error::SyntaxError { message, .. } | mlua::Error::RuntimeError(message) => {
            message.lines().next().unwrap_or_default().to_owned()
        }
        error => error.to_string(),
    }
}

/// The error of a script that ended early, with the place where it did.
fn failed(error: &mlua::Error, sha1: &str) -> Reply {
    if let mlua::Error::CallbackError { cause, .. } = error {
        return failed(cause, sha1);
    }
    let (mut text, line) = match error.downcast_ref::<Raised>() {
        Some(raised) => (raised.text.clone(), raised.line),
        None => {
            let words = words(error);
            let line = words.split(':').nth(1).and_then(|line| line.parse().ok());
            (format!("ERR {words}").into_bytes(), line)
        }
    };
    text.extend_from_slice(format!(" script: {sha1}").as_bytes());
    if let Some(line) = line {
        text.extend_from_slice(format!(", on {CHUNK}:{line}.").as_bytes());
    }
    Reply::Error(text)
}
