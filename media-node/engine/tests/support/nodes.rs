//! Several nodes of one or more engines each, in one virtual time, joined as workers and the mesh join them: rings within a
//! node, sealed datagrams between nodes, over a wire that delays, loses, repeats and reorders as a test likes.

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap, HashMap};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use voiceping_engine::id::{ChannelId, RelayId};
use voiceping_engine::{Error, Path, RelayKey, RelayOut, Role};

use super::{Fate, Sim};

/// A client: at which engine, and its place there.
pub type At = (usize, usize);

type Between = Box<dyn FnMut(&[u8], &mut StdRng) -> Fate>;

/// When, in which order, to which engine, what.
type InFlight = Reverse<(Instant, u64, usize, Vec<u8>)>;

/// One way between nodes, if a test does not say otherwise.
pub const BETWEEN: Duration = Duration::from_millis(5);

/// The network moves in steps of this: no datagram between nodes is faster.
const STEP: Duration = Duration::from_millis(1);

/// More than all the packets of any test.
const STORM: usize = 50_000;

/// See the module.
pub struct Nodes {
    /// All engines, node by node.
    pub engines: Vec<Sim>,
    /// Of each engine.
    pub node: Vec<usize>,
    pub fate: Between,
    pub rng: StdRng,
    /// Every datagram that was sent between nodes: from and to which engine.
    pub crossed: Vec<(usize, usize, Vec<u8>)>,
    keys: HashMap<(usize, usize), RelayKey>,
    listeners: HashMap<ChannelId, BTreeSet<usize>>,
    wire: BinaryHeap<InFlight>,
    sequence: u64,
}

impl Nodes {
    /// `workers[n]` engines for node `n`, all nodes subscribed to each other.
    pub fn new(seed: u64, workers: &[usize]) -> Self {
        Self::replaying(seed, workers, Duration::ZERO)
    }

    /// The same, replaying this much of a talk.
    pub fn replaying(seed: u64, workers: &[usize], replay: Duration) -> Self {
        let now = Instant::now();
        let node: Vec<usize> = workers.iter().enumerate().flat_map(|(node, count)| vec![node; *count]).collect();
        let engines =
            (0..node.len()).map(|at| Sim::replaying(now, seed.wrapping_mul(31) + at as u64, replay)).collect();
        let mut nodes = Self {
            engines,
            node,
            fate: Box::new(|_, _| vec![BETWEEN]),
            rng: StdRng::seed_from_u64(seed),
            crossed: Vec::new(),
            keys: HashMap::new(),
            listeners: HashMap::new(),
            wire: BinaryHeap::new(),
            sequence: 0,
        };
        for from in 0..workers.len() {
            for to in (0..workers.len()).filter(|to| *to != from) {
                nodes.subscribe(to, from);
            }
        }
        nodes
    }

    /// Has node `to` subscribe to node `from`.
    fn subscribe(&mut self, to: usize, from: usize) {
        let key = RelayKey::new(self.rng.random());
        self.keys.insert((from, to), key.clone());
        let now = self.now();
        for (sender, engine) in self.engines_of(from).into_iter().enumerate() {
            let relay = self.relay_out(from, to, sender as u8);
            self.engines[engine].engine.add_relay(now, RelayId(to as u64), relay).expect("it has workers");
        }
        for (receiver, engine) in self.engines_of(to).into_iter().enumerate() {
            self.engines[engine].engine.accept_relay(session(from, to), receiver as u8, key.clone());
        }
    }

    /// What node `from` is told when node `to` subscribes.
    pub fn relay_out(&self, from: usize, to: usize, sender: u8) -> RelayOut {
        let paths = self.engines_of(to).into_iter().map(|at| Path { socket: 0, remote: address(at) }).collect();
        RelayOut { session: session(from, to), key: self.keys[&(from, to)].clone(), sender, paths }
    }

    pub fn engines_of(&self, node: usize) -> Vec<usize> {
        (0..self.node.len()).filter(|at| self.node[*at] == node).collect()
    }

    pub fn now(&self) -> Instant {
        self.engines[0].now
    }

    pub fn client(&mut self, engine: usize, name: &str) -> At {
        (engine, self.engines[engine].client(name, Role::Client))
    }

    pub fn connect_all(&mut self) {
        let start = self.now();
        while self.engines.iter().flat_map(|sim| &sim.clients).any(|client| client.srtp.is_none()) {
            assert!(self.now() < start + Duration::from_secs(60), "not connected after a minute");
            self.run_for(Duration::from_millis(100));
        }
        self.run_for(Duration::from_millis(100));
    }

    pub fn produce(&mut self, (engine, client): At, channel: &str) {
        self.engines[engine].produce(client, channel);
    }

    pub fn consume(&mut self, (engine, client): At, channel: &str) {
        self.engines[engine].consume(client, channel);
        self.pass_on();
    }

    /// Tells every engine of one node, as a gateway does; the others learn of it from the packets.
    pub fn set_floor(&mut self, node: usize, channel: &str, epoch: u64, holder: Option<&str>) -> Result<(), Error> {
        let engines = self.engines_of(node);
        engines.into_iter().try_for_each(|engine| self.engines[engine].set_floor(channel, epoch, holder))
    }

    /// Twenty milliseconds of a talk, `packets` times, and as long as the last one needs to be heard on a good network.
    pub fn talk(&mut self, (engine, client): At, packets: usize) -> Vec<u64> {
        let mut said = Vec::new();
        for _ in 0..packets {
            said.push(self.engines[engine].speak(client));
            self.run_for(Duration::from_millis(20));
        }
        self.run_for(BETWEEN);
        said
    }

    /// The counts that a client heard from a speaker.
    pub fn heard(&self, (engine, client): At, speaker: &str) -> Vec<u64> {
        self.engines[engine].clients[client].heard(speaker)
    }

    /// How many datagrams were sent to an engine.
    pub fn crossed_to(&self, engine: usize) -> usize {
        self.crossed.iter().filter(|(_, to, _)| *to == engine).count()
    }

    /// Puts a datagram of another node before an engine, whoever sent it. Answers how many it sent because of it.
    pub fn inject(&mut self, engine: usize, datagram: &[u8]) -> usize {
        let sim = &mut self.engines[engine];
        let path = Path { socket: 0, remote: SocketAddr::from(([203, 0, 113, 7], 7)) };
        sim.engine.handle_datagram(sim.now, path, datagram, &mut sim.out);
        let sent = sim.out.sent.len() + sim.out.relayed.len();
        sim.drain();
        self.pass_on();
        sent
    }

    pub fn run_for(&mut self, time: Duration) {
        let until = self.now() + time;
        while self.now() < until {
            let step = (self.now() + STEP).min(until);
            self.engines.iter_mut().for_each(|sim| sim.run_until(step));
            self.pass_on();
            while self.wire.peek().is_some_and(|Reverse((at, ..))| *at <= step) {
                let Some(Reverse((_, _, engine, datagram))) = self.wire.pop() else { break };
                self.inject(engine, &datagram);
            }
        }
    }

    /// Carries what the engines have for each other.
    fn pass_on(&mut self) {
        for at in 0..self.engines.len() {
            for (channel, listening) in std::mem::take(&mut self.engines[at].listening) {
                self.listening(at, channel, listening);
            }
            for (_, remote, datagram) in std::mem::take(&mut self.engines[at].to_nodes) {
                let Some(to) = (0..self.engines.len()).find(|to| address(*to) == remote) else { continue };
                self.crossed.push((at, to, datagram.clone()));
                assert!(self.crossed.len() < STORM, "what was relayed is relayed again");
                for delay in (self.fate)(&datagram, &mut self.rng) {
                    self.sequence += 1;
                    self.wire.push(Reverse((self.now() + delay, self.sequence, to, datagram.clone())));
                }
            }
            for (peers, channel, epoch, packet) in std::mem::take(&mut self.engines[at].out.relayed) {
                for to in self.engines_of(self.node[at]).into_iter().filter(|to| peers & 1 << to != 0) {
                    let sim = &mut self.engines[to];
                    sim.engine.handle_relayed(sim.now, &channel, epoch, &packet, &mut sim.out);
                    sim.drain();
                }
            }
            for (channel, epoch) in std::mem::take(&mut self.engines[at].newer_epochs) {
                for to in self.peers_of(at) {
                    let sim = &mut self.engines[to];
                    sim.engine.adopt_epoch(sim.now, &channel, epoch);
                    sim.drain();
                }
            }
        }
    }

    fn listening(&mut self, at: usize, channel: ChannelId, listening: bool) {
        let now = self.now();
        for peer in self.peers_of(at) {
            let Sim { engine, out, .. } = &mut self.engines[peer];
            engine.set_peer_listening(now, &channel, at as u32, listening);
            if listening {
                engine.replay_to_peer(now, &channel, at as u32, out);
            }
        }
        let listeners = self.listeners.entry(channel.clone()).or_default();
        let changed = if listening { listeners.insert(at) } else { listeners.remove(&at) };
        assert!(changed, "said once");
        let node = self.node[at];
        let carried = listeners.iter().any(|engine| self.node[*engine] == node);
        for other in (0..self.engines.len()).filter(|other| self.node[*other] != node) {
            let Sim { engine, out, .. } = &mut self.engines[other];
            engine.set_relay_listening(now, &channel, RelayId(node as u64), carried);
            if carried && changed {
                engine.replay_to_node(now, &channel, RelayId(node as u64), out);
            }
            self.engines[other].drain();
        }
    }

    fn peers_of(&self, at: usize) -> Vec<usize> {
        self.engines_of(self.node[at]).into_iter().filter(|other| *other != at).collect()
    }
}

/// The number of the session in which node `to` hears node `from`.
pub fn session(from: usize, to: usize) -> u32 {
    0x5e55_0000 | (from as u32) << 8 | to as u32
}

/// Where an engine is reached by other nodes.
pub fn address(engine: usize) -> SocketAddr {
    SocketAddr::from(([10, 9, 0, engine as u8 + 1], 40_000))
}
