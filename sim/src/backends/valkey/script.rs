//! EVAL, EVALSHA and SCRIPT: the real text of a script, compiled once.
//!
//! Does not know what a script can do; that is in `lua`.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use mlua::Function;
use rustc_hash::FxBuildHasher;

use super::commands::{NOT_AN_INTEGER, integer, wrong_arguments};
use super::keyspace::Keyspace;
use super::lua::{CHUNK, Failed, Interpreter};
use super::reply::Reply;
use super::twins::{self, Twin};

const NO_SCRIPT: &str = "NOSCRIPT No matching script.";

#[derive(Clone)]
struct Script {
    function: Function,
    /// What does the same without the interpreter.
    twin: Option<Twin>,
    /// By which EVALSHA and the server's errors name it.
    sha1: Rc<str>,
}

pub(super) struct Scripts {
    interpreter: Interpreter,
    keyspace: Rc<RefCell<Keyspace>>,
    pub twins: Vec<(Vec<u8>, Twin)>,
    by_text: HashMap<Vec<u8>, Script, FxBuildHasher>,
    by_sha1: HashMap<Vec<u8>, Script>,
}

impl Scripts {
    pub fn new(keyspace: &Rc<RefCell<Keyspace>>) -> mlua::Result<Self> {
        Ok(Self {
            interpreter: Interpreter::new(keyspace)?,
            keyspace: Rc::clone(keyspace),
            twins: twins::all(),
            by_text: HashMap::default(),
            by_sha1: HashMap::new(),
        })
    }

    /// EVAL and EVALSHA: the script or its hash, the number of keys, the keys,
    /// the arguments.
    pub fn evaluate(&mut self, arguments: &[&[u8]], is_named_by_hash: bool) -> Reply {
        let [_, named, keys, rest @ ..] = arguments else {
            return wrong_arguments("eval");
        };
        let Some(keys) = integer(keys) else {
            return Reply::error(NOT_AN_INTEGER);
        };
        let Ok(keys) = usize::try_from(keys) else {
            return Reply::error("ERR Number of keys can't be negative");
        };
        let Some((keys, rest)) = rest.split_at_checked(keys) else {
            return Reply::error("ERR Number of keys can't be greater than number of args");
        };
        let script = if is_named_by_hash {
            let found = self.by_sha1.get(&named.to_ascii_lowercase());
            found.cloned().ok_or_else(|| Reply::error(NO_SCRIPT))
        } else {
            self.compiled(named)
        };
        let script = match script {
            Ok(script) => script,
            Err(complaint) => return complaint,
        };
        let twin = script.twin;
        twin.and_then(|twin| twin(&mut self.keyspace.borrow_mut(), keys, rest))
            .unwrap_or_else(|| {
                let ran = self.interpreter.run(&script.function, keys, rest);
                ran.unwrap_or_else(|failed| ended_early(failed, &script.sha1))
            })
    }

    /// SCRIPT LOAD, EXISTS and FLUSH.
    pub fn manage(&mut self, arguments: &[&[u8]]) -> Reply {
        let [_, what, rest @ ..] = arguments else {
            return wrong_arguments("script");
        };
        match (what.to_ascii_lowercase().as_slice(), rest) {
            (b"load", [text]) => match self.compiled(text) {
                Ok(script) => Reply::bulk(&*script.sha1),
                Err(complaint) => complaint,
            },
            (b"exists", [_, ..]) => {
                let is_there = |sha1: &&[u8]| self.by_sha1.contains_key(&sha1.to_ascii_lowercase());
                let found = rest
                    .iter()
                    .map(|sha1| Reply::count(usize::from(is_there(sha1))));
                Reply::Array(found.collect())
            }
            (b"flush", _) => {
                self.by_text.clear();
                self.by_sha1.clear();
                Reply::ok()
            }
            (b"load", _) => wrong_arguments("script|load"),
            (b"exists", _) => wrong_arguments("script|exists"),
            _ => {
                Reply::Error([b"ERR unknown subcommand '", *what, b"'. Try SCRIPT HELP."].concat())
            }
        }
    }

    fn compiled(&mut self, text: &[u8]) -> Result<Script, Reply> {
        if let Some(script) = self.by_text.get(text) {
            return Ok(script.clone());
        }
        let function = self.interpreter.compile(text).map_err(|complaint| {
            Reply::error(format!(
                "ERR Error compiling script (new function): {complaint}"
            ))
        })?;
        let mut twins = self.twins.iter();
        let twin = twins.find(|(own, _)| own == text).map(|(_, twin)| *twin);
        let script = Script {
            function,
            twin,
            sha1: sha1_smol::Sha1::from(text).digest().to_string().into(),
        };
        self.by_text.insert(text.to_vec(), script.clone());
        self.by_sha1
            .insert(script.sha1.as_bytes().to_vec(), script.clone());
        Ok(script)
    }
}

/// The error of a script that ended early, with the place where it did. What
/// it had written stays.
fn ended_early(failed: Failed, sha1: &str) -> Reply {
    let mut text = failed.text;
    text.extend_from_slice(format!(" script: {sha1}").as_bytes());
    if let Some(line) = failed.line {
        text.extend_from_slice(format!(", on {CHUNK}:{line}.").as_bytes());
    }
    Reply::Error(text)
}
