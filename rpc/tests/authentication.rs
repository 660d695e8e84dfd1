//! Processes that know each other and processes that do not, over real connections.

use std::net::{SocketAddr, TcpListener};
use std::path::Path;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tokio::sync::oneshot;
use tonic::{Code, Request, Response, Status, Streaming};
use voiceping_proto::media::v1::relay_client::RelayClient;
use voiceping_proto::media::v1::relay_server::{Relay, RelayServer};
use voiceping_proto::media::v1::{SubscribeRequest, SubscribeResponse};
use voiceping_rpc::{Dialer, RpcChannel, RpcConfig, Security, Server, is_refused};

const SECRET: &str = "a secret of the tests";
const NAME: &str = "media-node.voiceping";

/// Answers every call with nothing.
struct Silent;

#[tonic::async_trait]
impl Relay for Silent {
    type SubscribeStream = Streaming<SubscribeResponse>;

    async fn subscribe(
        &self,
        _request: Request<Streaming<SubscribeRequest>>,
    ) -> Result<Response<Self::SubscribeStream>, Status> {
        Err(Status::already_exists("it was reached"))
    }
}

struct Running {
    address: SocketAddr,
    end: oneshot::Sender<()>,
    ended: tokio::task::JoinHandle<anyhow::Result<()>>,
}

async fn start(security: Security) -> Running {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("bound");
    let server = Server::new(security).expect("descriptors").add(RelayServer::new(Silent)).await;
    let (end, ended) = oneshot::channel::<()>();
    let ended = tokio::spawn(server.run(listener, async { drop(ended.await) }));
    Running { address, end, ended }
}

/// The outcome of a call.
async fn call(security: Security, address: SocketAddr) -> Status {
    call_over(Dialer::new(security).dial(&address.to_string()).expect("an address")).await
}

async fn call_over(channel: RpcChannel) -> Status {
    let no_messages = Request::new(tonic::codegen::tokio_stream::empty::<SubscribeRequest>());
    RelayClient::new(channel).subscribe(no_messages).await.expect_err("this service only refuses")
}

fn secret(secret: &str) -> Security {
    RpcConfig { cluster_secret: Some(secret.into()), ..nothing() }.security().expect("long enough")
}

fn nothing() -> RpcConfig {
    RpcConfig {
        grpc_tls_cert: None,
        grpc_tls_key: None,
        grpc_tls_ca: None,
        grpc_tls_name: NAME.into(),
        grpc_tls_callers: Vec::new(),
        cluster_secret: None,
    }
}

/// An authority, which signs certificates into files.
struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("signed"))
    }

    fn config(&self, folder: &Path, name: &str) -> RpcConfig {
        let key = KeyPair::generate().expect("a key");
        let params = CertificateParams::new(vec![name.to_owned()]).expect("a name");
        let cert = params.signed_by(&key, &self.0).expect("signed");
        let file = |name: &str, pem: String| {
            let path = folder.join(name);
            std::fs::write(&path, pem).expect("written");
            Some(path)
        };
        RpcConfig {
            grpc_tls_cert: file("cert.pem", cert.pem()),
            grpc_tls_key: file("key.pem", key.serialize_pem()),
            grpc_tls_ca: file("ca.pem", self.0.as_ref().pem()),
            ..nothing()
        }
    }

    fn security(&self, name: &str) -> Security {
        let folder = tempfile::tempdir().expect("a folder");
        self.config(folder.path(), name).security().expect("files")
    }
}

#[tokio::test]
async fn who_knows_the_secret_is_answered() {
    let server = start(secret(SECRET)).await;
    assert_eq!(call(secret(SECRET), server.address).await.code(), Code::AlreadyExists);
    server.end.send(()).expect("it runs");
    server.ended.await.expect("no panic").expect("it ends in order");
    let status = call(secret(SECRET), server.address).await;
    assert!(is_refused(&status), "nobody listens any more: {status:?}");
}

#[tokio::test]
async fn who_does_not_know_the_secret_is_refused() {
    let server = start(secret(SECRET)).await;
    let refused = call(secret("another secret, also long"), server.address).await;
    assert_eq!(refused.code(), Code::Unauthenticated, "{refused:?}");
    assert!(!is_refused(&refused));
    let with_certificate_only = Authority::new().security(NAME);
    assert_ne!(call(with_certificate_only, server.address).await.code(), Code::AlreadyExists);
}

#[tokio::test]
async fn an_answer_of_a_stranger_is_none() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("bound");
    let incoming = tonic::transport::server::TcpIncoming::from(listener);
    let serving =
        tonic::transport::Server::builder().add_service(RelayServer::new(Silent)).serve_with_incoming(incoming);
    let stranger = tokio::spawn(serving);
    let status = call(secret(SECRET), address).await;
    assert!(status.message().contains("does not know the cluster's secret"), "{status:?}");
    stranger.abort();
}

#[tokio::test]
async fn certificates_of_one_authority_know_each_other() {
    let (ours, other) = (Authority::new(), Authority::new());
    let server = start(ours.security(NAME)).await;
    assert_eq!(
        call(ours.security("gateway"), server.address).await.code(),
        Code::AlreadyExists,
        "whatever it is called"
    );
    assert_ne!(call(other.security("gateway"), server.address).await.code(), Code::AlreadyExists);
    assert_ne!(call(secret(SECRET), server.address).await.code(), Code::AlreadyExists, "in clear");
    let misnamed = start(ours.security("elsewhere")).await;
    assert_ne!(call(ours.security(NAME), misnamed.address).await.code(), Code::AlreadyExists, "not a media node's");
}

#[tokio::test]
async fn certificates_are_replaced_under_connections_that_stay() {
    let (old, new) = (Authority::new(), Authority::new());
    let folder = tempfile::tempdir().expect("a folder");
    let server = start(old.config(folder.path(), NAME).security().expect("files")).await;
    let open = Dialer::new(old.security("gateway")).dial(&server.address.to_string()).expect("an address");
    assert_eq!(call_over(open.clone()).await.code(), Code::AlreadyExists);
    // Half of a change, and no change at all: the old ones stay.
    std::fs::write(folder.path().join("key.pem"), "no key").expect("written");
    new.config(folder.path(), NAME);
    let replaced = async {
        while call(new.security("gateway"), server.address).await.code() != Code::AlreadyExists {
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(60), replaced).await.expect("the new ones are in use");
    assert_eq!(call_over(open).await.code(), Code::AlreadyExists, "what was open stays open");
    assert_ne!(call(old.security("gateway"), server.address).await.code(), Code::AlreadyExists);
}

#[tokio::test]
async fn callers_have_a_name_where_one_is_asked_for() {
    let authority = Authority::new();
    let folder = tempfile::tempdir().expect("a folder");
    let config = authority.config(folder.path(), NAME);
    let named = RpcConfig { grpc_tls_callers: vec!["gateway".into(), NAME.into()], ..config };
    let server = start(named.security().expect("files")).await;
    for (caller, may) in [("gateway", true), (NAME, true), ("printer", false)] {
        let reached = call(authority.security(caller), server.address).await.code() == Code::AlreadyExists;
        assert_eq!(reached, may, "{caller}");
    }
}

#[tokio::test]
async fn both_may_be_asked_for() {
    let authority = Authority::new();
    let both = |secret: &str| {
        let folder = tempfile::tempdir().expect("a folder");
        RpcConfig { cluster_secret: Some(secret.into()), ..authority.config(folder.path(), NAME) }
            .security()
            .expect("good")
    };
    let server = start(both(SECRET)).await;
    assert_eq!(call(both(SECRET), server.address).await.code(), Code::AlreadyExists);
    assert_eq!(call(authority.security(NAME), server.address).await.code(), Code::Unauthenticated);
}

#[tokio::test]
async fn health_and_reflection_are_open() {
    use tonic_health::pb::HealthCheckRequest;
    use tonic_health::pb::health_client::HealthClient;
    use tonic_reflection::pb::v1::ServerReflectionRequest;
    use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
    use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
    use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;
    let server = start(secret(SECRET)).await;
    let channel = tonic::transport::Endpoint::from_shared(format!("http://{}", server.address)).expect("an address");
    let mut health = HealthClient::new(channel.connect().await.expect("it listens"));
    for service in ["", "voiceping.media.v1.Relay"] {
        let request = HealthCheckRequest { service: service.into() };
        let status = health.check(request).await.expect("served").into_inner().status();
        assert_eq!(status, tonic_health::pb::health_check_response::ServingStatus::Serving);
    }
    let channel = tonic::transport::Endpoint::from_shared(format!("http://{}", server.address)).expect("an address");
    let mut reflection = ServerReflectionClient::new(channel.connect().await.expect("it listens"));
    let question = ServerReflectionRequest {
        message_request: Some(MessageRequest::ListServices(String::new())),
        ..Default::default()
    };
    let questions = Request::new(tonic::codegen::tokio_stream::once(question));
    let mut answers = reflection.server_reflection_info(questions).await.expect("served").into_inner();
    let answer = answers.message().await.expect("answered").expect("an answer").message_response;
    let Some(MessageResponse::ListServicesResponse(list)) = answer else { panic!("{answer:?}") };
    for service in ["voiceping.media.v1.MediaNode", "voiceping.media.v1.Relay"] {
        assert!(list.service.iter().any(|listed| listed.name == service), "{list:?}");
    }
}

#[test]
fn settings_that_cannot_work_say_what_to_do() {
    let error = nothing().security().expect_err("nothing to know each other by").to_string();
    assert!(error.contains("--cluster-secret") && error.contains("--grpc-tls-cert"), "{error}");
    let short = RpcConfig { cluster_secret: Some("short".into()), ..nothing() }.security().expect_err("too short");
    assert!(short.to_string().contains("16"), "{short}");
    let missing = RpcConfig {
        grpc_tls_cert: Some("no-such-file".into()),
        grpc_tls_key: Some("no-such-file".into()),
        grpc_tls_ca: Some("no-such-file".into()),
        ..nothing()
    };
    assert!(missing.security().expect_err("no file").to_string().contains("no-such-file"));
    assert!(!format!("{:?}", secret(SECRET)).contains(SECRET));
}
