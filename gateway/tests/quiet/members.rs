//! A gateway without media nodes, and members that are bare sockets.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use clap::Parser;
use secrecy::SecretSlice;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use voiceping_gateway::{Claims, Config, Dependencies, Gateway, Keys};
use voiceping_state::{FloorRules, Memory, Store, memory};

/// A busy machine is slow, not wrong.
const PATIENCE: Duration = Duration::from_secs(60);

/// Of a member, on the stack.
const BUFFER: usize = 16 * 1024;

const RULES: FloorRules = FloorRules { lease: Duration::from_secs(600), talk_limit: None };

#[derive(Debug, Parser)]
struct Flags {
    #[command(flatten)]
    gateway: Config,
}

pub(crate) struct Quiet {
    pub(crate) store: Store,
    address: SocketAddr,
    keys: Keys,
    shutdown: CancellationToken,
    task: JoinHandle<anyhow::Result<()>>,
}

impl Quiet {
    pub(crate) fn start() -> Self {
        let store = Store::Memory(Memory::new(RULES, memory::Limits::default()));
        let keys = Keys::hs256(&SecretSlice::from(vec![7; 32]), None, None);
        let flags = "test --listen 127.0.0.1:0 --channel-access open --connect-burst 100000 --ping-interval 1h";
        let dependencies = Dependencies {
            store: store.clone(),
            rules: RULES,
            dial: Arc::new(|_| anyhow::bail!("there is no media node")),
            keys: keys.clone(),
            dev_sign_in: false,
        };
        let config = Flags::parse_from(flags.split_whitespace()).gateway;
        let gateway = Gateway::bind(config, dependencies).expect("binds");
        let (address, shutdown) = (gateway.local_addr(), CancellationToken::new());
        let task = tokio::spawn(gateway.run(shutdown.clone()));
        Self { store, address, keys, shutdown, task }
    }

    /// So many members of a channel, each with a session as our own client has it.
    pub(crate) async fn members(&self, channel: &str, count: usize) -> Vec<Member> {
        let (address, channel) = (self.address, channel.to_owned());
        let token = |user: usize| {
            let claims = Claims { user_id: format!("u{user}"), user_name: format!("U{user}"), ..Claims::default() };
            self.keys.sign(&claims, Duration::from_secs(3600)).expect("signs")
        };
        let tokens: Vec<_> = (0..count).map(token).collect();
        let connect = move || tokens.iter().map(|token| Member::join(address, token, &channel)).collect();
        tokio::task::spawn_blocking(connect).await.expect("they join")
    }

    pub(crate) async fn end(self) {
        self.shutdown.cancel();
        self.task.await.expect("does not panic").expect("ends in order");
    }
}

/// One that says what it has to say, and then nothing. It has no memory but a file descriptor.
#[derive(Debug)]
pub(crate) struct Member(TcpStream);

impl Member {
    fn join(address: SocketAddr, token: &str, channel: &str) -> Self {
        let stream = TcpStream::connect(address).expect("connects");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        let mut member = Self(stream);
        let handshake = format!(
            "GET /ws HTTP/1.1\r\nhost: test\r\nconnection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n\
             sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\nauthorization: Bearer {token}\r\n\r\n"
        );
        member.0.write_all(handshake.as_bytes()).expect("sends");
        member.read_until(b"channel-list");
        member.say(r#"{"type":"session","id":"1"}"#);
        member.read_until(b"expiresIn");
        member.say(&format!(r#"{{"type":"join-channel","id":"2","data":{{"channelId":"{channel}"}}}}"#));
        member.read_until(b"join-channel");
        member
    }

    /// A text frame, masked with nothing.
    pub(crate) fn say(&mut self, text: &str) {
        let length = u16::try_from(text.len()).expect("short").to_be_bytes();
        let frame = [&[0x81, 0xfe, length[0], length[1], 0, 0, 0, 0], text.as_bytes()].concat();
        self.0.write_all(&frame).expect("sends");
    }

    /// Reads until a word has come, and what is there with it.
    pub(crate) fn read_until(&mut self, word: &[u8]) {
        self.read_into(&mut [0; BUFFER], word);
    }

    /// The same, and answers it; the end of it, if it is long.
    pub(crate) fn hear(&mut self, word: &str) -> String {
        let mut heard = [0; BUFFER];
        let length = self.read_into(&mut heard, word.as_bytes());
        String::from_utf8_lossy(&heard[..length]).into_owned()
    }

    fn read_into(&mut self, heard: &mut [u8; BUFFER], word: &[u8]) -> usize {
        let mut length = 0;
        while !heard[..length].windows(word.len()).any(|part| part == word) {
            if length == heard.len() {
                // Other pushes than the one that is waited for.
                heard.copy_within(length - word.len().., 0);
                length = word.len();
            }
            let count = self.0.read(&mut heard[length..]).expect("the word comes in time");
            assert!(count > 0, "the gateway has closed");
            length += count;
        }
        length
    }
}
