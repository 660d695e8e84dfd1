//! The transports of one connection, and the channels that use them.
//!
//! Existing clients differ: the browser opens a pair for each channel, Android one to receive for each channel and one
//! to send for all of them. Our own client may receive several channels over one.

use std::collections::{HashMap, HashSet};

use voiceping_proto::media::v1::Direction;
use voiceping_state::ChannelId;

use crate::error::Refusal;

/// A pair for each channel, and as many again while an old pair still waits for its timeout.
const PER_CHANNEL: usize = 2;
const SPARE: usize = 4;

/// The transports of one connection.
#[derive(Debug, Default)]
pub(crate) struct Transports {
    by_id: HashMap<String, Transport>,
    /// The last one to receive that was opened for a channel.
    receiving_by_channel: HashMap<ChannelId, String>,
}

#[derive(Debug)]
struct Transport {
    direction: Direction,
    channels: HashSet<ChannelId>,
}

impl Transports {
    /// Is there room for one more, on so many channels?
    pub(crate) fn check_limit(&self, joined: usize) -> Result<(), Refusal> {
        let limit = joined * PER_CHANNEL + SPARE;
        if self.by_id.len() < limit { Ok(()) } else { Err(Refusal::TransportLimit(limit)) }
    }

    pub(crate) fn add(&mut self, id: &str, direction: Direction, channel: &ChannelId) {
        let transport = Transport { direction, channels: HashSet::from([channel.clone()]) };
        self.by_id.insert(id.to_owned(), transport);
        if direction == Direction::Recv {
            self.receiving_by_channel.insert(channel.clone(), id.to_owned());
        }
    }

    pub(crate) fn remove(&mut self, id: &str) {
        self.by_id.remove(id);
        self.receiving_by_channel.retain(|_, receiving| receiving != id);
    }

    pub(crate) fn check(&self, id: &str) -> Result<(), Refusal> {
        if self.by_id.contains_key(id) { Ok(()) } else { Err(Refusal::TransportNotFound(id.to_owned())) }
    }

    /// A channel is about to be sent over this transport.
    pub(crate) fn use_to_send(&mut self, id: &str, channel: &ChannelId) -> Result<(), Refusal> {
        match self.by_id.get_mut(id) {
            Some(transport) if transport.direction == Direction::Send => {
                transport.channels.insert(channel.clone());
                Ok(())
            }
            _ => Err(Refusal::TransportNotFound(id.to_owned())),
        }
    }

    /// A channel is about to be received: over the transport that the client names, or the one opened for the channel.
    pub(crate) fn use_to_receive(&mut self, id: Option<&str>, channel: &ChannelId) -> Result<String, Refusal> {
        let id = match id {
            Some(id) => id,
            None => self.receiving_by_channel.get(channel).ok_or(Refusal::NoReceiveTransport)?,
        };
        match self.by_id.get_mut(id) {
            Some(transport) if transport.direction == Direction::Recv => {
                transport.channels.insert(channel.clone());
                Ok(id.to_owned())
            }
            _ => Err(Refusal::NoReceiveTransport),
        }
    }

    /// The connection has left a channel, maybe its last. Answers the transports that are removed with it: those that
    /// received only this channel, and all of them with the last. Else one that sends stays: Android keeps it for the
    /// next channel.
    pub(crate) fn leave(&mut self, channel: &ChannelId, last: bool) -> Vec<String> {
        for transport in self.by_id.values_mut() {
            transport.channels.remove(channel);
        }
        self.receiving_by_channel.remove(channel);
        self.by_id
            .extract_if(|_, transport| {
                last || (transport.channels.is_empty() && transport.direction == Direction::Recv)
            })
            .map(|(id, _)| id)
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn channels() -> (ChannelId, ChannelId) {
        ("a".into(), "b".into())
    }

    #[test]
    fn a_transport_is_used_in_its_direction_only() {
        let (a, b) = channels();
        let mut transports = Transports::default();
        transports.add("send", Direction::Send, &a);
        transports.add("recv", Direction::Recv, &a);
        assert_eq!(transports.use_to_send("send", &b), Ok(()));
        assert_eq!(transports.use_to_send("recv", &a), Err(Refusal::TransportNotFound("recv".into())));
        assert_eq!(transports.use_to_receive(None, &a), Ok("recv".into()));
        assert_eq!(transports.use_to_receive(None, &b), Err(Refusal::NoReceiveTransport));
        assert_eq!(transports.use_to_receive(Some("recv"), &b), Ok("recv".into()));
        assert_eq!(transports.use_to_receive(Some("send"), &b), Err(Refusal::NoReceiveTransport));
        transports.remove("recv");
        assert_eq!(transports.use_to_receive(None, &a), Err(Refusal::NoReceiveTransport));
        assert_eq!(transports.check("recv"), Err(Refusal::TransportNotFound("recv".into())));
    }

    #[test]
    fn leaving_closes_what_nothing_else_uses() {
        let (a, b) = channels();
        let mut transports = Transports::default();
        transports.add("send", Direction::Send, &a);
        transports.add("recv a", Direction::Recv, &a);
        transports.add("recv b", Direction::Recv, &b);
        assert_eq!(transports.leave(&a, false), ["recv a"]);
        assert_eq!(transports.use_to_send("send", &b), Ok(()), "the one to send serves the other channel");
        let mut rest = transports.leave(&b, true);
        rest.sort_unstable();
        assert_eq!(rest, ["recv b", "send"]);
    }

    #[test]
    fn the_limit_grows_with_the_channels() {
        let (a, _) = channels();
        let mut transports = Transports::default();
        for count in 0..6 {
            assert_eq!(transports.check_limit(1), Ok(()));
            transports.add(&count.to_string(), Direction::Recv, &a);
        }
        assert_eq!(transports.check_limit(1), Err(Refusal::TransportLimit(6)));
        assert_eq!(transports.check_limit(2), Ok(()));
    }
}
