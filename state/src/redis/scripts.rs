//! The Lua scripts, embedded: each decides and announces in one step, on the server.

use std::sync::LazyLock;

use redis::{Cmd, Script as Hashed, cmd};

/// A script as the server knows it: by its hash, once it has seen the text.
pub(super) struct Script {
    /// As it is called in metrics and traces.
    pub(super) name: &'static str,
    text: &'static str,
    hash: String,
}

impl Script {
    fn new(name: &'static str, text: &'static str) -> Self {
        Self { name, text, hash: Hashed::new(text).get_hash().to_owned() }
    }

    /// The call of a script that the server has seen.
    pub(super) fn by_hash(&self, keys: &[String], args: &[&str]) -> Cmd {
        call("EVALSHA", &self.hash, keys, args)
    }

    /// The call that also brings the text: it works on any shard, also on one that was promoted a moment ago.
    pub(super) fn by_text(&self, keys: &[String], args: &[&str]) -> Cmd {
        call("EVAL", self.text, keys, args)
    }
}

fn call(command: &str, script: &str, keys: &[String], args: &[&str]) -> Cmd {
    let mut call = cmd(command);
    call.arg(script).arg(keys.len()).arg(keys).arg(args);
    call
}

macro_rules! scripts {
    ($($name:ident $word:literal = $($file:literal)+;)*) => {
        $(pub(super) static $name: LazyLock<Script> =
            LazyLock::new(|| Script::new($word, concat!($(include_str!(concat!("lua/", $file))),+)));)*
    };
}

scripts! {
    TAKE "take" = "channel.lua" "known.lua" "take.lua";
    RELEASE "release" = "channel.lua" "known.lua" "release.lua";
    RENEW "renew" = "channel.lua" "known.lua" "renew.lua";
    EXPIRE "expire" = "channel.lua" "known.lua" "expire.lua";
    LOOK "look" = "channel.lua" "known.lua" "look.lua";
    RECOVER "recover" = "channel.lua" "recover.lua";
    JOIN "join" = "channel.lua" "presence.lua" "join.lua";
    LEAVE "leave" = "channel.lua" "presence.lua" "leave.lua";
    MEMBERS "members" = "channel.lua" "members.lua";
    SWEEP "sweep" = "channel.lua" "presence.lua" "sweep.lua";
    RESTORE "restore" = "channel.lua" "presence.lua" "restore.lua";
    BEAT "beat" = "beat.lua";
    SWEPT "swept" = "swept.lua";
    REGISTER "register" = "register.lua";
    UNREGISTER "unregister" = "unregister.lua";
    NODES "nodes" = "nodes.lua";
}
