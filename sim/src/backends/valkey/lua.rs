//! The Lua that the server has inside: what scripts find there, and how values
//! cross between Lua and RESP ("Scripting with Lua", "Data type conversion").
//!
//! Does not know EVAL or a script's text. Left out: `cjson`, `cmsgpack`,
//! `struct`, `bit`, `os`, RESP3 for scripts; and random numbers, as a
//! simulation has its own. A script that wants them fails.

use std::cell::RefCell;
use std::fmt;
use std::rc::Rc;

use mlua::{BorrowedBytes, Function, Lua, LuaOptions, MultiValue, StdLib, Table, Value};

use super::commands::{Does, command};
use super::keyspace::Keyspace;
use super::reply::Reply;

/// The name under which the server compiles a script, as its errors show it.
pub(super) const CHUNK: &str = "@user_script";

/// Closes the globals, and gives back how to run a script: its environment,
/// and a function that calls it.
///
/// What `redis.call` raises is an error to `xpcall` and a text to a script that
/// catches it (`luaRedisPcall`). The environment is empty, so that every
/// assignment to a global is noticed, also one to a name that is there.
const BOOTSTRAP: &str = r#"
local api, text_of, handler = ...
local error, pcall, tostring, xpcall = error, pcall, tostring, xpcall
function api.error_reply(text)
  if string.sub(text, 1, 1) == '-' then text = string.sub(text, 2) end
  if not string.find(text, ' ') then text = 'ERR ' .. text end
  return {err = text}
end
function api.status_reply(text) return {ok = text} end
local function caught(ok, problem, ...)
  if ok then return ok, problem, ... end
  return ok, text_of(problem)
end
local globals = _G
redis, server = api, api
function globals.pcall(...) return caught(pcall(...)) end
for _, name in ipairs({'print', 'dofile', 'loadfile'}) do globals[name] = nil end
math.random, math.randomseed = nil, nil
local function readonly() error('Attempt to modify a readonly table', 2) end
local function missing(_, name)
  error("Script attempted to access nonexistent global variable '" .. tostring(name) .. "'", 2)
end
local environment = setmetatable({}, {__index = globals, __newindex = readonly})
setmetatable(globals, {__index = missing, __newindex = readonly})
return environment, function(script) return xpcall(script, handler) end
"#;

/// An interpreter with the server's commands in it.
pub(super) struct Interpreter {
    lua: Lua,
    environment: Table,
    run: Function,
}

/// How a script ended early: what it said, and its line.
pub(super) struct Failed {
    pub text: Vec<u8>,
    pub line: Option<usize>,
}

/// What `redis.call` raises.
#[derive(Debug)]
struct Raised(Vec<u8>);

impl fmt::Display for Raised {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&String::from_utf8_lossy(&self.0))
    }
}

impl std::error::Error for Raised {}

/// The text of an error reply that was raised, by us or by the script.
fn said(raised: &Value) -> Option<Vec<u8>> {
    match raised {
        Value::Table(table) => field(table, "err"),
        Value::Error(error) => said_by_us(error).map(|raised| raised.0.clone()),
        _ => None,
    }
}

fn said_by_us(error: &mlua::Error) -> Option<&Raised> {
    match error {
        mlua::Error::CallbackError { cause, .. } => said_by_us(cause),
        error => error.downcast_ref(),
    }
}

impl Interpreter {
    pub fn new(keyspace: &Rc<RefCell<Keyspace>>) -> mlua::Result<Self> {
        let libraries = StdLib::TABLE | StdLib::STRING | StdLib::MATH;
        let lua = Lua::new_with(libraries, LuaOptions::new())?;
        let api = lua.create_table()?;
        api.raw_set(
            "sha1hex",
            lua.create_function(|_, text: mlua::String| {
                Ok(sha1_smol::Sha1::from(&*text.as_bytes())
                    .digest()
                    .to_string())
            })?,
        )?;
        let shared = Rc::clone(keyspace);
        api.raw_set(
            "call",
            lua.create_function(move |lua, arguments: MultiValue| {
                match called(&shared, &arguments) {
                    Reply::Error(text) => Err(mlua::Error::external(Raised(text))),
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
        let text_of = lua.create_function(|lua, raised: Value| match said(&raised) {
            Some(text) => Ok(Value::String(lua.create_string(text)?)),
            None => Ok(raised),
        })?;
        let handler = lua.create_function(problem)?;
        let (environment, run) = lua
            .load(BOOTSTRAP)
            .set_name("=server")
            .call((api, text_of, handler))?;
        Ok(Self {
            lua,
            environment,
            run,
        })
    }

    /// A script, compiled; or the compiler's complaint.
    pub fn compile(&self, text: &[u8]) -> Result<Function, String> {
        let chunk = self.lua.load(text).set_name(CHUNK);
        let chunk = chunk.set_mode(mlua::ChunkMode::Text);
        let chunk = chunk.set_environment(self.environment.clone());
        chunk.into_function().map_err(|error| match error {
            mlua::Error::SyntaxError { message, .. } => message,
            error => error.to_string(),
        })
    }

    pub fn run(
        &self,
        script: &Function,
        keys: &[&[u8]],
        arguments: &[&[u8]],
    ) -> Result<Reply, Failed> {
        let outcome = self
            .set_global("KEYS", keys)
            .and_then(|()| self.set_global("ARGV", arguments))
            .and_then(|()| self.run.call::<(bool, Value)>(script));
        match outcome {
            Ok((true, value)) => Ok(from_lua(&value)),
            Ok((false, Value::Table(problem))) => Err(Failed {
                text: field(&problem, "err").unwrap_or_default(),
                line: problem.raw_get("line").unwrap_or_default(),
            }),
            // Not from the script: there is no memory, or an error in an error.
            Ok((false, value)) => Err(Failed {
                text: format!("ERR {value:?}").into_bytes(),
                line: None,
            }),
            Err(error) => Err(Failed {
                text: format!("ERR {error}").into_bytes(),
                line: None,
            }),
        }
    }

    fn set_global(&self, name: &str, values: &[&[u8]]) -> mlua::Result<()> {
        let table = self.lua.create_table_with_capacity(values.len(), 0)?;
        for (place, value) in values.iter().enumerate() {
            table.raw_set(place + 1, self.lua.create_string(value)?)?;
        }
        self.lua.globals().raw_set(name, table)
    }
}

/// What was raised, with the script's line, while its stack is still there
/// (`luaErrorHandler`).
fn problem(lua: &Lua, raised: Value) -> mlua::Result<Table> {
    const LEVELS: usize = 64;
    let line_at = |level| {
        let line = lua.inspect_stack(level, |frame| {
            let is_script = frame.source().source.is_some_and(|name| name == CHUNK);
            frame.current_line().filter(|_| is_script)
        });
        line.flatten()
    };
    let text = match (said(&raised), &raised) {
        (Some(text), _) => text,
        (None, Value::Table(_)) => b"ERR unknown error".to_vec(),
        (None, Value::String(text)) => [b"ERR ", &*text.as_bytes()].concat(),
        (None, other) => [b"ERR ", other.to_string()?.as_bytes()].concat(),
    };
    let problem = lua.create_table_with_capacity(0, 2)?;
    problem.raw_set("err", lua.create_string(text)?)?;
    problem.raw_set("line", (1..LEVELS).find_map(line_at))?;
    Ok(problem)
}

/// What Lua gives as an argument of a command.
enum Argument<'a> {
    Text(BorrowedBytes<'a>),
    Number(String),
}

/// What `redis.call` was given, done.
fn called(keyspace: &RefCell<Keyspace>, arguments: &MultiValue) -> Reply {
    let given: Option<Vec<Argument<'_>>> = arguments
        .iter()
        .map(|argument| match argument {
            Value::String(text) => Some(Argument::Text(text.as_bytes())),
            Value::Integer(number) => Some(Argument::Number(number.to_string())),
            Value::Number(number) => Some(Argument::Number(number_text(*number))),
            _ => None,
        })
        .collect();
    let Some(given) = given else {
        return Reply::error("ERR Command arguments must be strings or integers");
    };
    let given: Vec<&[u8]> = given
        .iter()
        .map(|argument| match argument {
            Argument::Text(text) => &**text,
            Argument::Number(text) => text.as_bytes(),
        })
        .collect();
    let Some(name) = given.first() else {
        return Reply::error("ERR Please specify at least one argument for this call");
    };
    let Some((_, command)) = command(name) else {
        return Reply::error("ERR Unknown command called from script");
    };
    if !command.takes(given.len()) {
        return Reply::error("ERR Wrong number of args calling command from script");
    }
    let Does::Keyspace(run) = command.does else {
        return Reply::error("ERR This Redis command is not allowed from script");
    };
    let mut keyspace = keyspace.borrow_mut();
    match command.refusal_in_script(&mut keyspace) {
        Some(refusal) => Reply::error(refusal),
        None => run(&mut keyspace, &given),
    }
}

/// As the server writes a number for an argument: whole ones as integers as
/// long as they may be (`double2ll`), others by their shortest digits, in the
/// forms that `fpconv_dtoa` has.
fn number_text(number: f64) -> String {
    const WHOLE_MAX: f64 = (i64::MAX / 2) as f64;
    if number.fract() == 0.0 && number.abs() <= WHOLE_MAX {
        return format!("{}", number as i64);
    }
    let sign = if number.is_sign_negative() { "-" } else { "" };
    if !number.is_finite() {
        let name = if number.is_nan() { "nan" } else { "inf" };
        return [sign, name].concat();
    }
    let shortest = format!("{:e}", number.abs());
    let (digits, exponent) = shortest.split_once('e').unwrap_or((&shortest, "0"));
    let digits = digits.replace('.', "");
    let exponent: i32 = exponent.parse().unwrap_or_default();
    let places = exponent + 1 - i32::try_from(digits.len()).unwrap_or_default();
    let size = exponent.abs();
    let (first, rest) = digits.split_at(1);
    if places < 0 && (places > -7 || size < 4) {
        return format!("{sign}{}", number.abs());
    }
    let point = if rest.is_empty() { "" } else { "." };
    let exponent_sign = if exponent < 0 { '-' } else { '+' };
    format!("{sign}{first}{point}{rest}e{exponent_sign}{size}")
}

fn single(lua: &Lua, field: &str, text: &[u8]) -> mlua::Result<Value> {
    let table = lua.create_table_with_capacity(0, 1)?;
    table.raw_set(field, lua.create_string(text)?)?;
    Ok(Value::Table(table))
}

/// "Valkey to Lua type conversion", in the older version of RESP.
fn to_lua(lua: &Lua, reply: Reply) -> mlua::Result<Value> {
    Ok(match reply {
        Reply::Integer(number) => Value::Number(number as f64),
        Reply::Bulk(bytes) => Value::String(lua.create_string(bytes)?),
        Reply::Verbatim(bytes) => Value::String(lua.create_string(bytes)?),
        Reply::Null => Value::Boolean(false),
        Reply::Simple(text) => single(lua, "ok", &text)?,
        Reply::Error(text) => single(lua, "err", &text)?,
        Reply::Array(elements) => {
            let table = lua.create_table_with_capacity(elements.len(), 0)?;
            for (place, element) in elements.into_iter().enumerate() {
                table.raw_set(place + 1, to_lua(lua, element)?)?;
            }
            Value::Table(table)
        }
        Reply::Map(members) => {
            let flat = members.into_iter().flat_map(<[Reply; 2]>::from).collect();
            to_lua(lua, Reply::Array(flat))?
        }
    })
}

/// "Lua to Valkey type conversion".
fn from_lua(value: &Value) -> Reply {
    match value {
        Value::String(text) => Reply::bulk(text.as_bytes()),
        Value::Integer(number) => Reply::Integer(*number),
        // Cut, not rounded; and what is too large is the least integer.
        Value::Number(number) if number.abs() < i64::MAX as f64 => Reply::Integer(*number as i64),
        Value::Number(_) => Reply::Integer(i64::MIN),
        Value::Boolean(true) => Reply::Integer(1),
        Value::Table(table) => from_table(table),
        _ => Reply::Null,
    }
}

/// A text of a table, if it has one of that name.
fn field(table: &Table, name: &str) -> Option<Vec<u8>> {
    match table.raw_get(name) {
        Ok(Value::String(text)) => Some(text.as_bytes().to_vec()),
        _ => None,
    }
}

fn from_table(table: &Table) -> Reply {
    let mut elements = Vec::new();
    for place in 1_i64.. {
        match table.raw_get(place) {
            Ok(Value::Nil) | Err(_) => break,
            Ok(value) => elements.push(from_lua(&value)),
        }
    }
    // A table with elements may still be an error or a status.
    if let Some(error) = field(table, "err") {
        return Reply::Error(error);
    }
    match field(table, "ok") {
        Some(status) => Reply::Simple(status.into()),
        None => Reply::Array(elements),
    }
}
