//! The transports of one connection.
//!
//! They belong to the connection, not to a channel, and end with it, or when the client closes them: existing clients
//! differ in what they share. The browser opens a pair for each channel; Android one to receive for each channel, and one
//! to send for all of them; our own client one pair for everything.

use std::collections::HashMap;
use std::sync::Arc;

use voiceping_proto::media::v1::Direction;
use voiceping_state::ChannelId;

use crate::error::Refusal;
use crate::nodes::{NodeHandle, distinct};

/// A pair for each channel, and some that still wait for their timeout.
const PER_CHANNEL: usize = 2;
const SPARE: usize = 4;

/// The transports of one connection. While it moves they are on two nodes.
#[derive(Debug, Default)]
pub(crate) struct Transports {
    by_id: HashMap<String, Transport>,
    /// The last one to receive that was opened for a channel.
    receiving_by_channel: HashMap<ChannelId, String>,
    /// Where the last stream was produced for a channel.
    speaking_by_channel: HashMap<ChannelId, Arc<NodeHandle>>,
}

#[derive(Debug)]
struct Transport {
    direction: Direction,
    node: Arc<NodeHandle>,
}

impl Transports {
    /// Is there room for one more, on so many channels?
    pub(crate) fn check_limit(&self, joined: usize) -> Result<(), Refusal> {
        let limit = joined * PER_CHANNEL + SPARE;
        if self.by_id.len() < limit { Ok(()) } else { Err(Refusal::TransportLimit(limit)) }
    }

    /// One that was opened, for a channel or, if that is not known any more, for any.
    pub(crate) fn add(&mut self, id: &str, direction: Direction, node: &Arc<NodeHandle>, channel: Option<&ChannelId>) {
        self.by_id.insert(id.to_owned(), Transport { direction, node: Arc::clone(node) });
        if let (Direction::Recv, Some(channel)) = (direction, channel) {
            self.receiving_by_channel.insert(channel.clone(), id.to_owned());
        }
    }

    pub(crate) fn remove(&mut self, id: &str) {
        self.by_id.remove(id);
        self.receiving_by_channel.retain(|_, receiving| receiving != id);
    }

    /// Forgets those whose node is lost.
    pub(crate) fn remove_lost(&mut self) {
        self.by_id.retain(|_, transport| !transport.node.is_lost());
        self.receiving_by_channel.retain(|_, receiving| self.by_id.contains_key(receiving));
        self.speaking_by_channel.retain(|_, node| !node.is_lost());
    }

    /// The node of a transport.
    pub(crate) fn node_of(&self, id: &str) -> Result<Arc<NodeHandle>, Refusal> {
        let transport = self.by_id.get(id).ok_or_else(|| Refusal::TransportNotFound(id.to_owned()))?;
        Ok(Arc::clone(&transport.node))
    }

    /// The node of a transport to send.
    pub(crate) fn sending(&self, id: &str) -> Result<Arc<NodeHandle>, Refusal> {
        match self.by_id.get(id) {
            Some(Transport { direction: Direction::Send, node }) => Ok(Arc::clone(node)),
            _ => Err(Refusal::TransportNotFound(id.to_owned())),
        }
    }

    /// The transport to receive a channel over, with its node: the one that the client names, else the one that it opened
    /// for the channel, else the only one that it has to receive.
    pub(crate) fn receiving(
        &self,
        id: Option<&str>,
        channel: &ChannelId,
    ) -> Result<(String, Arc<NodeHandle>), Refusal> {
        let id = id.or_else(|| self.receiving_by_channel.get(channel).map(String::as_str)).or_else(|| self.only_one());
        match id.and_then(|id| self.by_id.get_key_value(id)) {
            Some((id, Transport { direction: Direction::Recv, node })) => Ok((id.clone(), Arc::clone(node))),
            _ => Err(Refusal::NoReceiveTransport),
        }
    }

    fn only_one(&self) -> Option<&str> {
        let mut receiving = self.by_id.iter().filter(|(_, transport)| transport.direction == Direction::Recv);
        let (id, _) = receiving.next()?;
        receiving.next().is_none().then_some(id)
    }

    /// The connection has produced a stream for a channel.
    pub(crate) fn produced(&mut self, channel: &ChannelId, node: &Arc<NodeHandle>) {
        self.speaking_by_channel.insert(channel.clone(), Arc::clone(node));
    }

    /// The node from which the connection is heard on a channel, if it ever was. While it moves that is still the former one.
    pub(crate) fn speaking(&self, channel: &ChannelId) -> Option<Arc<NodeHandle>> {
        self.speaking_by_channel.get(channel).filter(|node| !node.is_lost()).cloned()
    }

    /// The nodes on which there are any.
    pub(crate) fn nodes(&self) -> Vec<Arc<NodeHandle>> {
        distinct(self.by_id.values().map(|transport| Arc::clone(&transport.node)))
    }

    /// What there is, for the client.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, Direction)> {
        self.by_id.iter().map(|(id, transport)| (id.as_str(), transport.direction))
    }

    /// The connection has left a channel.
    pub(crate) fn forget_channel(&mut self, channel: &ChannelId) {
        self.receiving_by_channel.remove(channel);
        self.speaking_by_channel.remove(channel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nodes::tests::unreachable;

    fn channels() -> (ChannelId, ChannelId) {
        ("a".into(), "b".into())
    }

    fn id(received_over: Result<(String, Arc<NodeHandle>), Refusal>) -> Result<String, Refusal> {
        received_over.map(|(id, _)| id)
    }

    #[tokio::test]
    async fn a_transport_is_used_in_its_direction_only() {
        let ((a, _), node) = (channels(), unreachable("n"));
        let mut transports = Transports::default();
        transports.add("send", Direction::Send, &node, Some(&a));
        assert_eq!(id(transports.receiving(None, &a)), Err(Refusal::NoReceiveTransport));
        transports.add("recv", Direction::Recv, &node, Some(&a));
        assert!(transports.sending("send").is_ok_and(|its| its.is(&node)));
        assert_eq!(transports.sending("recv").expect_err("refused"), Refusal::TransportNotFound("recv".into()));
        assert_eq!(id(transports.receiving(Some("recv"), &a)), Ok("recv".into()));
        assert_eq!(id(transports.receiving(Some("send"), &a)), Err(Refusal::NoReceiveTransport));
        assert_eq!(id(transports.receiving(Some("other"), &a)), Err(Refusal::NoReceiveTransport));
        transports.remove("recv");
        assert_eq!(id(transports.receiving(None, &a)), Err(Refusal::NoReceiveTransport));
        assert_eq!(transports.node_of("recv").expect_err("refused"), Refusal::TransportNotFound("recv".into()));
    }

    #[tokio::test]
    async fn a_channel_is_received_over_its_own_transport_or_over_the_only_one() {
        let ((a, b), node) = (channels(), unreachable("n"));
        let mut transports = Transports::default();
        transports.add("recv a", Direction::Recv, &node, Some(&a));
        assert_eq!(id(transports.receiving(None, &b)), Ok("recv a".into()));
        transports.add("recv b", Direction::Recv, &node, Some(&b));
        assert_eq!(id(transports.receiving(None, &a)), Ok("recv a".into()));
        assert_eq!(id(transports.receiving(None, &b)), Ok("recv b".into()));
        transports.forget_channel(&b);
        assert_eq!(id(transports.receiving(None, &b)), Err(Refusal::NoReceiveTransport), "either could be meant");
    }

    #[tokio::test]
    async fn the_limit_grows_with_the_channels() {
        let ((a, _), node) = (channels(), unreachable("n"));
        let mut transports = Transports::default();
        for count in 0..6 {
            assert_eq!(transports.check_limit(1), Ok(()));
            transports.add(&count.to_string(), Direction::Recv, &node, Some(&a));
        }
        assert_eq!(transports.check_limit(1), Err(Refusal::TransportLimit(6)));
        assert_eq!(transports.check_limit(2), Ok(()));
    }

    #[tokio::test]
    async fn what_was_on_a_lost_node_is_forgotten() {
        let ((a, _), lost, other) = (channels(), unreachable("n1"), unreachable("n2"));
        let mut transports = Transports::default();
        transports.add("old", Direction::Recv, &lost, Some(&a));
        transports.add("new", Direction::Recv, &other, None);
        assert_eq!(transports.nodes().len(), 2);
        lost.lose(crate::nodes::Lost::Gone);
        transports.remove_lost();
        assert_eq!(id(transports.receiving(None, &a)), Ok("new".into()));
        assert_eq!(transports.nodes().len(), 1);
    }
}
