//! Real servers for the tests: Debian's redis-server on loopback, on free ports, with a folder of its own each. They end
//! with the test process, however that ends.

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use redis::{Client, Connection, FromRedisValue, IntoConnectionInfo, cmd};
use tempfile::TempDir;

/// Starts the server and ends it when the pipe to us does, which it does even when we are killed.
const GUARD: &str = r#"redis-server "$@" >/dev/null 2>&1 & echo $!; read _; kill -9 $! 2>/dev/null; rm -rf "$0""#;

/// One process.
pub(crate) struct Server {
    pub(crate) port: u16,
    address: String,
    pid: u32,
    args: Vec<String>,
    _folder: TempDir,
    guard: Child,
    /// The end of the pipe that the guard waits for.
    _pipe: Option<ChildStdin>,
}

impl Server {
    /// A server that keeps nothing, with further settings as on its command line.
    pub(crate) fn start(settings: &[&str]) -> Self {
        Self::start_at("127.0.0.1", settings)
    }

    /// The same at another of this machine's addresses.
    pub(crate) fn start_at(address: &str, settings: &[&str]) -> Self {
        let settings: Vec<_> = settings.iter().map(|setting| (*setting).to_owned()).collect();
        Self::start_on(address, free_port(), TempDir::new().expect("a folder"), settings)
    }

    fn start_on(address: &str, port: u16, folder: TempDir, settings: Vec<String>) -> Self {
        assert!(
            Command::new("redis-server").arg("--version").stdout(Stdio::null()).status().is_ok(),
            "these tests need redis-server: apt-get install redis-server (scripts/prepare.sh test-rust does so)"
        );
        let path = folder.path().to_str().expect("text").to_owned();
        let mut guard = Command::new("sh")
            .args(["-c", GUARD, &path])
            .args(&settings)
            .args(["--port", &port.to_string(), "--bind", address, "--dir", &path])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("a shell");
        let pipe = guard.stdin.take();
        let mut pid = String::new();
        let stdout = guard.stdout.take().expect("piped");
        BufReader::new(stdout).read_line(&mut pid).expect("the pid");
        let pid = pid.trim().parse().expect("a pid");
        let server =
            Self { port, address: address.to_owned(), pid, args: settings, _folder: folder, guard, _pipe: pipe };
        until("the server answers", || server.connect().is_some());
        server
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://{}:{}", self.address, self.port)
    }

    /// Ends it at once, as a power cut does.
    pub(crate) fn kill(&self) {
        self.signal("-KILL");
    }

    pub(crate) fn signal(&self, signal: &str) {
        Command::new("kill").args([signal, &self.pid.to_string()]).status().expect("kill");
    }

    /// The same server again on the same port, having forgotten everything.
    pub(crate) fn start_again(self) -> Self {
        let (address, port, settings) = (self.address.clone(), self.port, self.args.clone());
        drop(self);
        Self::start_on(&address, port, TempDir::new().expect("a folder"), settings)
    }

    pub(crate) fn ask<T: FromRedisValue>(&self, command: &str) -> T {
        self.try_ask(command).unwrap_or_else(|error| panic!("{command}: {error}"))
    }

    fn try_ask<T: FromRedisValue>(&self, command: &str) -> redis::RedisResult<T> {
        let mut words = command.split(' ');
        let mut call = cmd(words.next().expect("a word"));
        for word in words {
            call.arg(word);
        }
        call.query(&mut self.connect().ok_or((redis::ErrorKind::Io, "not there"))?)
    }

    fn connect(&self) -> Option<Connection> {
        let info = self.url().into_connection_info().ok()?;
        let mut settings = info.redis_settings().clone();
        if let Some(password) = self.args.iter().skip_while(|arg| *arg != "--requirepass").nth(1) {
            settings = settings.set_password(password);
        }
        let mut connection = Client::open(info.set_redis_settings(settings)).ok()?.get_connection().ok()?;
        cmd("PING").query::<()>(&mut connection).ok().map(|()| connection)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
        self._pipe = None;
        let _ = self.guard.wait();
    }
}

/// Six nodes: three masters, each with a replica. With patience: on a busy machine a node may be silent for seconds.
pub(crate) fn cluster() -> Vec<Server> {
    cluster_with(&[])
}

/// The same with these settings too.
pub(crate) fn cluster_with(more: &[&str]) -> Vec<Server> {
    let nodes: Vec<_> = (0..6)
        .map(|_| {
            let bus = free_port().to_string();
            let settings = ["--cluster-enabled", "yes", "--cluster-node-timeout", "5000", "--cluster-port", &bus];
            // A replica that has not heard of its master for a moment may still take over: these are young.
            let young = ["--cluster-replica-validity-factor", "0", "--repl-diskless-sync-delay", "0"];
            (Server::start(&[settings.as_slice(), &NOTHING_KEPT, &young, more].concat()), bus)
        })
        .collect();
    for (n, (node, _)) in nodes.iter().enumerate() {
        let () = node.ask(&format!("CLUSTER SET-CONFIG-EPOCH {}", n + 1));
        if n < 3 {
            let (first, last) = (n * 5462, ((n + 1) * 5462 - 1).min(16383));
            let () = node.ask(&format!("CLUSTER ADDSLOTSRANGE {first} {last}"));
        }
        let (first, bus) = &nodes[0];
        let () = node.ask(&format!("CLUSTER MEET 127.0.0.1 {} {bus}", first.port));
    }
    let nodes: Vec<_> = nodes.into_iter().map(|(node, _)| node).collect();
    let info = |node: &Server| node.ask::<String>("CLUSTER INFO");
    until("the nodes know each other", || nodes.iter().all(|node| info(node).contains("cluster_known_nodes:6")));
    for (master, replica) in (0..3).zip(3..6) {
        let id: String = nodes[master].ask("CLUSTER MYID");
        until("a node follows", || nodes[replica].try_ask::<()>(&format!("CLUSTER REPLICATE {id}")).is_ok());
    }
    until("the cluster is complete", || nodes.iter().all(|node| info(node).contains("cluster_state:ok")));
    until("the replicas are linked", || {
        nodes[..3].iter().all(|node| node.ask::<String>("INFO replication").contains("state=online"))
    });
    nodes
}

/// A master, a replica and three Sentinels.
pub(crate) struct Watched {
    pub(crate) servers: [Server; 2],
    pub(crate) sentinels: Vec<Server>,
}

pub(crate) fn sentinels() -> Watched {
    sentinels_with(None, None)
}

/// The same with a password of the servers, and one of the Sentinels.
pub(crate) fn sentinels_with(of_servers: Option<&str>, of_sentinels: Option<&str>) -> Watched {
    let mut settings = [NOTHING_KEPT.as_slice(), &["--repl-diskless-sync-delay", "0"]].concat();
    if let Some(password) = of_servers {
        settings.extend(["--requirepass", password, "--masterauth", password]);
    }
    let master = Server::start(&settings);
    let replica = Server::start(&settings);
    let () = replica.ask(&format!("REPLICAOF 127.0.0.1 {}", master.port));
    until("the replica is linked", || master.ask::<String>("INFO replication").contains("state=online"));
    let sentinels: Vec<_> = (0..3)
        .map(|_| {
            // A Sentinel keeps its settings in a file that it writes to.
            let folder = TempDir::new().expect("a folder");
            let file = folder.path().join("sentinel.conf");
            // They ask once a second: with less patience than that they doubt a new master that is fine.
            let mut watch = format!(
                "sentinel monitor main 127.0.0.1 {} 2\nsentinel down-after-milliseconds main 1500\n\
                 sentinel failover-timeout main 3000\n",
                master.port
            );
            let file_name = file.to_str().expect("text").to_owned();
            let mut args = vec![file_name, "--sentinel".into()];
            if let Some(password) = of_servers {
                watch += &format!("sentinel auth-pass main {password}\n");
            }
            if let Some(password) = of_sentinels {
                watch += &format!("sentinel sentinel-pass {password}\n");
                args.extend(["--requirepass".into(), password.into()]);
            }
            std::fs::write(&file, watch).expect("written");
            Server::start_on("127.0.0.1", free_port(), folder, args)
        })
        .collect();
    until("the Sentinels know all", || {
        sentinels.iter().all(|sentinel| {
            let state: String = sentinel.ask("INFO sentinel");
            state.contains("slaves=1,sentinels=3")
        })
    });
    Watched { servers: [master, replica], sentinels }
}

impl Watched {
    /// Kills the master and waits until the replica has taken over.
    pub(crate) fn fail_over(&self) {
        self.servers[0].kill();
        let port = self.servers[1].port.to_string();
        until("another master is named by all", || {
            self.sentinels.iter().all(|sentinel| {
                let address: Vec<String> = sentinel.ask("SENTINEL GET-MASTER-ADDR-BY-NAME main");
                address.get(1) == Some(&port)
            })
        });
    }
}

pub(crate) const NOTHING_KEPT: [&str; 4] = ["--save", "", "--appendonly", "no"];

pub(crate) fn free_port() -> u16 {
    // It could be taken by somebody else before the server has it; nobody here asks for so many.
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("an address").port()
}

/// Processes tell nobody when they are ready: they are asked until they are.
fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let patience = Instant::now() + Duration::from_secs(60);
    while !is_so() {
        assert!(Instant::now() < patience, "not in time: {what}");
        sleep(Duration::from_millis(10));
    }
}
