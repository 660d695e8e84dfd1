//! Why a request is refused: a stable code for machines and a text for a person, side by side, so that nothing internal
//! can leak into either.
//!
//! Made by the requests and the parser of messages; written to the client by [`crate::message`]. The texts are part of
//! the protocol.

use voiceping_state::{ChannelId, JoinError, StateError};

/// A refused request. Its text is what the client is told.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refusal {
    #[error("Failed to process message")]
    Malformed,
    #[error("Invalid message type")]
    UnknownType,
    #[error("Unhandled message type: {0}")]
    ServerType(String),
    #[error("{0} is required")]
    Required(&'static str),
    #[error("{0} is invalid")]
    Invalid(&'static str),
    #[error("direction must be \"send\" or \"recv\"")]
    Direction,
    #[error("kind must be \"audio\"")]
    Kind,
    #[error("Permission denied: Not authorized for this channel")]
    NotAuthorized,
    #[error("Not a member of channel {0}")]
    NotAMember(ChannelId),
    #[error("Router not found for channel {0}")]
    RouterNotFound(ChannelId),
    #[error("Cannot join more than {0} channels simultaneously")]
    JoinLimit(usize),
    #[error("Channel is full")]
    ChannelFull,
    #[error("Transport {0} not found")]
    TransportNotFound(String),
    #[error("Receive transport not found for consume operation")]
    NoReceiveTransport,
    #[error("Cannot open more than {0} transports")]
    TransportLimit(usize),
    #[error("Producer {0} not found")]
    ProducerNotFound(String),
    #[error("Consumer {0} not found")]
    ConsumerNotFound(String),
    #[error("Unauthorized: Invalid or expired token")]
    Token,
    #[error("Too many messages")]
    RateLimited,
    #[error("The request does not fit the state of its transport")]
    MediaConflict,
    #[error("The media server has reached its limit")]
    MediaFull,
    #[error("The media server is unavailable, try again")]
    MediaUnavailable,
    #[error("No media server has room, try again")]
    NoMediaNode,
    #[error("The service is unavailable, try again")]
    StateUnavailable,
}

impl Refusal {
    /// The stable code, for clients that branch and as a label of metrics.
    pub(crate) fn code(&self) -> &'static str {
        match self {
            Self::Malformed => "malformed-message",
            Self::UnknownType => "unknown-type",
            Self::ServerType(_) => "unhandled-type",
            Self::Required(_) => "field-required",
            Self::Invalid(_) | Self::Direction | Self::Kind => "field-invalid",
            Self::NotAuthorized => "not-authorized",
            Self::NotAMember(_) => "not-a-member",
            Self::RouterNotFound(_) => "router-not-found",
            Self::JoinLimit(_) => "join-limit",
            Self::ChannelFull => "channel-full",
            Self::TransportNotFound(_) => "transport-not-found",
            Self::NoReceiveTransport => "no-receive-transport",
            Self::TransportLimit(_) => "transport-limit",
            Self::ProducerNotFound(_) => "producer-not-found",
            Self::ConsumerNotFound(_) => "consumer-not-found",
            Self::Token => "token-invalid",
            Self::RateLimited => "rate-limited",
            Self::MediaConflict => "media-conflict",
            Self::MediaFull => "media-full",
            Self::MediaUnavailable => "media-unavailable",
            Self::NoMediaNode => "no-media-node",
            Self::StateUnavailable => "state-unavailable",
        }
    }
}

impl From<StateError> for Refusal {
    fn from(error: StateError) -> Self {
        tracing::warn!(%error, "a request could not be answered");
        Self::StateUnavailable
    }
}

impl From<JoinError> for Refusal {
    fn from(error: JoinError) -> Self {
        match error {
            JoinError::Full(_) => Self::ChannelFull,
            JoinError::State(error) => error.into(),
        }
    }
}

/// A media node's refusal that has no better name in the request that met it. The requests translate NOT_FOUND, because
/// only they know what was looked for.
impl From<tonic::Status> for Refusal {
    fn from(status: tonic::Status) -> Self {
        use tonic::Code;
        match status.code() {
            Code::InvalidArgument => {
                tracing::debug!(message = status.message(), "the media node refused an argument");
                Self::Invalid("data")
            }
            Code::FailedPrecondition | Code::NotFound => {
                tracing::debug!(message = status.message(), "the media node refused a request");
                Self::MediaConflict
            }
            Code::ResourceExhausted => {
                tracing::warn!(message = status.message(), "the media node has reached a limit");
                Self::MediaFull
            }
            code => {
                tracing::warn!(?code, message = status.message(), "the media node did not answer a request");
                Self::MediaUnavailable
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_those_of_the_protocol() {
        let texts = [
            (Refusal::Malformed, "Failed to process message"),
            (Refusal::UnknownType, "Invalid message type"),
            (Refusal::ServerType("pong".into()), "Unhandled message type: pong"),
            (Refusal::Required("channelId"), "channelId is required"),
            (Refusal::Direction, "direction must be \"send\" or \"recv\""),
            (Refusal::NotAuthorized, "Permission denied: Not authorized for this channel"),
            (Refusal::JoinLimit(3), "Cannot join more than 3 channels simultaneously"),
            (Refusal::ChannelFull, "Channel is full"),
            (Refusal::RouterNotFound("c1".into()), "Router not found for channel c1"),
            (Refusal::TransportNotFound("t1".into()), "Transport t1 not found"),
            (Refusal::NoReceiveTransport, "Receive transport not found for consume operation"),
            (Refusal::ProducerNotFound("p1".into()), "Producer p1 not found"),
        ];
        for (refusal, text) in texts {
            assert_eq!(refusal.to_string(), text);
        }
    }
}
