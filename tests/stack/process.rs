//! The process under test: starts it as a person would, reads its address from its log, tells it to stop.

use std::net::SocketAddr;
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio::task::JoinHandle;
use voiceping_testkit::signaling::Signaling;
use voiceping_testkit::soon;

/// The secret that the process runs with.
pub(crate) const SECRET: &str = "a secret that is only used in tests, and long enough";

/// The binary with nothing of the tester's own environment in its settings.
pub(crate) fn voiceping(arguments: &[&str]) -> Command {
    voiceping_behind(&[], arguments)
}

/// The same behind another command, which becomes it in the end.
pub(crate) fn voiceping_behind(wrapper: &[&str], arguments: &[&str]) -> Command {
    let words = [wrapper, &[env!("CARGO_BIN_EXE_voiceping")], arguments].concat();
    let mut command = Command::new(words[0]);
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("VOICEPING_") {
            command.env_remove(name);
        }
    }
    command.args(&words[1..]).kill_on_drop(true).stdin(Stdio::null());
    command
}

/// A running process of the binary. Killed when dropped.
pub(crate) struct Running {
    child: Child,
    said: String,
    log: Arc<Mutex<String>>,
    reader: JoinHandle<()>,
}

impl Running {
    /// Starts it and waits until its log has a line with `marker` in it.
    pub(crate) async fn start(arguments: &[&str], marker: &'static str) -> Result<Self> {
        Self::spawn(voiceping(arguments), marker).await
    }

    /// The same with a command that is prepared in another way.
    pub(crate) async fn spawn(mut command: Command, marker: &'static str) -> Result<Self> {
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn()?;
        let mut lines = BufReader::new(child.stderr.take().context("piped")?).lines();
        let log = Arc::new(Mutex::new(String::new()));
        let said = Arc::clone(&log);
        let (found, rest) = tokio::sync::oneshot::channel();
        let reader = tokio::spawn(async move {
            let mut found = Some(found);
            while let Ok(Some(line)) = lines.next_line().await {
                if let Some((_, rest)) = line.split_once(marker)
                    && let Some(found) = found.take()
                {
                    let rest = rest.split(['"', ' ']).next().unwrap_or_default();
                    let _ = found.send(rest.to_owned()); // nobody waits for a process that was dropped
                }
                let mut said = said.lock().expect("no panic");
                said.push_str(&line);
                said.push('\n');
            }
        });
        let said = soon("the address in the log", rest).await?;
        let said = said.with_context(|| format!("the process ended: {}", log.lock().expect("no panic")))?;
        Ok(Self { child, said, log, reader })
    }

    /// What followed the marker, up to the next space.
    pub(crate) fn said(&self) -> &str {
        &self.said
    }

    /// What it has logged so far.
    pub(crate) fn log(&self) -> String {
        self.log.lock().expect("no panic").clone()
    }

    /// Sends a signal by its name. The shell knows how without a library.
    pub(crate) async fn signal(&self, signal: &str) -> Result<()> {
        let id = self.child.id().context("it runs")?;
        let status = Command::new("sh").args(["-c", &format!("kill -{signal} {id}")]).status().await?;
        ensure!(status.success(), "the signal was sent");
        Ok(())
    }

    /// Ends it as a power cut does. Its log is whole then.
    #[allow(dead_code)] // the tests of clusters kill
    pub(crate) async fn kill(&mut self) -> Result<()> {
        self.child.kill().await?;
        Ok((&mut self.reader).await?)
    }

    /// Waits for its end. Its log is whole then.
    pub(crate) async fn ended(&mut self) -> Result<ExitStatus> {
        let status = soon("the end of the process", self.child.wait()).await??;
        (&mut self.reader).await?;
        Ok(status)
    }
}

/// A running all-in-one.
pub(crate) struct Process {
    running: Running,
    address: SocketAddr,
}

impl Process {
    /// Starts it on ports of the system's choice, with these flags besides.
    pub(crate) async fn start(flags: &[&str]) -> Result<Self> {
        Self::run(&[&["--jwt-secret", SECRET], flags].concat()).await
    }

    /// Starts it as a newcomer does, who has no secret.
    pub(crate) async fn without_secret() -> Result<Self> {
        Self::run(&[]).await
    }

    async fn run(flags: &[&str]) -> Result<Self> {
        // A flag that a test gives takes the place of the usual one. A holder who sends nothing is the business of few
        // tests, and they say so.
        let defaults = [
            ("--listen", "127.0.0.1:0"),
            ("--media-listen", "127.0.0.1:0"),
            ("--media-workers", "2"),
            ("--silence-limit", "60s"),
        ];
        let defaults = defaults.into_iter().filter(|(flag, _)| !flags.contains(flag));
        let arguments: Vec<&str> =
            defaults.flat_map(|(flag, value)| [flag, value]).chain(flags.iter().copied()).collect();
        let running = Running::start(&arguments, "VoicePing is at http://").await?;
        let address = running.said().parse().with_context(|| running.log())?;
        Ok(Self { running, address })
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn url(&self) -> String {
        format!("ws://{}/ws", self.address)
    }

    /// What it has logged so far.
    pub(crate) fn log(&self) -> String {
        self.running.log()
    }

    /// A socket of this user, who may join these channels.
    pub(crate) async fn socket(&self, user: &str, channels: &[&str]) -> Result<Signaling> {
        Signaling::connect(&self.url(), &token(user, channels)).await
    }

    /// The same, on this channel.
    pub(crate) async fn member(&self, user: &str, channel: &str) -> Result<Signaling> {
        let mut socket = self.socket(user, &[channel]).await?;
        socket.ok("join-channel", json!({"channelId": channel})).await?;
        Ok(socket)
    }

    /// A plain GET: status and body.
    pub(crate) async fn get(&self, path: &str) -> Result<(u16, String)> {
        get(&self.address.to_string(), path).await
    }

    /// `/health` once its number of connections is this one: a socket that was closed is gone a moment later.
    pub(crate) async fn until_connections(&self, connections: u64) -> Result<()> {
        let reached = async {
            loop {
                let health: Value = serde_json::from_str(&self.get("/health").await?.1)?;
                if health["connections"] == connections {
                    return Ok(());
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        soon(&format!("{connections} connections"), reached).await?
    }

    /// Sends a signal by its name.
    pub(crate) async fn signal(&self, signal: &str) -> Result<()> {
        self.running.signal(signal).await
    }

    /// Waits for its end.
    pub(crate) async fn ended(&mut self) -> Result<ExitStatus> {
        self.running.ended().await
    }
}

/// A plain GET: status and body.
pub(crate) async fn get(address: &str, path: &str) -> Result<(u16, String)> {
    let mut stream = TcpStream::connect(address).await?;
    let request = format!("GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut response = String::new();
    soon("the response", stream.read_to_string(&mut response)).await??;
    let status = response.split(' ').nth(1).context("a status")?.parse()?;
    let body = response.split_once("\r\n\r\n").context("a body")?.1;
    Ok((status, body.to_owned()))
}

/// A token of a user who may join these channels. The name is the id with a capital.
pub(crate) fn token(user: &str, channels: &[&str]) -> String {
    sign(&json!({"userId": user, "userName": name(user), "channelIds": channels, "exp": in_seconds(3600)}))
}

/// A user's name.
pub(crate) fn name(user: &str) -> String {
    let mut letters = user.chars();
    letters.next().into_iter().flat_map(char::to_uppercase).chain(letters).collect()
}

/// Signs any claims.
pub(crate) fn sign(claims: &Value) -> String {
    let key = jsonwebtoken::EncodingKey::from_secret(SECRET.as_bytes());
    jsonwebtoken::encode(&jsonwebtoken::Header::default(), claims, &key).expect("claims can be signed")
}

/// A time of a token, so many seconds from now.
pub(crate) fn in_seconds(seconds: i64) -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs();
    now as i64 + seconds
}
