//! Ids as types of their own; like those of the state, with which the engine shares nothing, on purpose. Those given by
//! gateways (channel, connection, gateway) are opaque; transport, producer and consumer ids are made by the engine. All
//! are cheap to clone, and maps by them can be asked with plain text.

use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(Arc<str>);

        impl $name {
            /// The id as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl From<String> for $name {
            fn from(text: String) -> Self {
                Self(text.into())
            }
        }

        impl From<&str> for $name {
            fn from(text: &str) -> Self {
                Self(text.into())
            }
        }

        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&self.0, f)
            }
        }
    };
}

id! {
    /// A channel.
    ChannelId
}
id! {
    /// A client's connection to a gateway; owns transports.
    ConnectionId
}
id! {
    /// A gateway, whose events are routed by this id.
    GatewayId
}
id! {
    /// An ICE+DTLS association.
    TransportId
}
id! {
    /// A stream from a client.
    ProducerId
}
id! {
    /// A stream to a client.
    ConsumerId
}

/// A node to which talks are relayed. The worker counts: one for each time that a node subscribes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RelayId(pub u64);
