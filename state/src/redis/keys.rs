//! Every name that this backend uses on a server, and nothing else.
//!
//! The part in braces is the hash tag: a Cluster keeps all names with the same one on the same shard, so that one script
//! may touch them.

use std::sync::Arc;

use crate::id::ChannelId;

/// The names of one deployment.
#[derive(Debug, Clone)]
pub(super) struct Keys {
    prefix: Arc<str>,
}

impl Keys {
    pub(super) fn new(prefix: &str) -> Self {
        Self { prefix: escaped(prefix).into() }
    }

    /// KEYS of the scripts about a channel: floor, topic, members, users, gateways.
    pub(super) fn channel(&self, channel: &ChannelId) -> [String; 5] {
        ["floor", "events", "members", "users", "gateways"].map(|what| self.of_channel(channel, what))
    }

    /// Where a channel's events are published.
    pub(super) fn topic(&self, channel: &ChannelId) -> String {
        self.of_channel(channel, "events")
    }

    /// KEYS of the heartbeat: alive, dead, generations.
    pub(super) fn gateways(&self) -> [String; 3] {
        ["alive", "dead", "generations"].map(|what| format!("{}:{{gateways}}:{what}", self.prefix))
    }

    /// KEYS of the scripts about media nodes: nodes, leases.
    pub(super) fn nodes(&self) -> [String; 2] {
        ["nodes", "leases"].map(|what| format!("{}:{{nodes}}:{what}", self.prefix))
    }

    /// The channels on which one life of a gateway has had members.
    pub(super) fn channels_of(&self, gateway: &str, generation: u64) -> String {
        format!("{}:{{gateway:{}:{generation}}}:channels", self.prefix, escaped(gateway))
    }

    /// What is claimed once.
    pub(super) fn claim(&self, key: &str) -> String {
        format!("{}:{{claim:{}}}", self.prefix, escaped(key))
    }

    fn of_channel(&self, channel: &ChannelId, what: &str) -> String {
        format!("{}:{{{}}}:{what}", self.prefix, escaped(channel.as_str()))
    }
}

/// A name without braces, which would end the hash tag early; never empty, for an empty tag is none.
fn escaped(name: &str) -> String {
    if name.is_empty() {
        return "%".into();
    }
    name.replace('%', "%25").replace('{', "%7B").replace('}', "%7D")
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn tag(key: &str) -> &str {
        let (_, rest) = key.split_once('{').expect("a tag");
        rest.split_once('}').expect("a tag").0
    }

    #[test]
    fn the_names_are_these() {
        let keys = Keys::new("voiceping");
        let expected = ["floor", "events", "members", "users", "gateways"];
        assert_eq!(keys.channel(&"lobby".into()), expected.map(|what| format!("voiceping:{{lobby}}:{what}")));
        assert_eq!(keys.topic(&"lobby".into()), "voiceping:{lobby}:events");
        assert_eq!(
            keys.gateways(),
            ["alive", "dead", "generations"].map(|what| format!("voiceping:{{gateways}}:{what}"))
        );
        assert_eq!(keys.nodes(), ["nodes", "leases"].map(|what| format!("voiceping:{{nodes}}:{what}")));
        assert_eq!(keys.channels_of("g1", 7), "voiceping:{gateway:g1:7}:channels");
        assert_eq!(keys.claim("ticket"), "voiceping:{claim:ticket}");
    }

    #[test]
    fn a_channels_keys_share_a_tag_whatever_its_name() {
        let keys = Keys::new("a{b}");
        let mut all = HashSet::new();
        let names = ["lobby", "", "%", "}", "{}", "}{", "a}b", "a{b", "%7D", "grüße", "x:floor", "gateways", "nodes"];
        for name in names {
            let of_channel = keys.channel(&name.into());
            for key in &of_channel {
                assert_eq!(tag(key), tag(&of_channel[0]));
                assert!(!tag(key).is_empty());
            }
            all.extend(of_channel);
        }
        all.extend(keys.gateways());
        all.extend(keys.nodes());
        assert_eq!(all.len(), names.len() * 5 + 3 + 2, "no two share a name");
    }
}
