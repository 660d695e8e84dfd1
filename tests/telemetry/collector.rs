//! A collector of traces, metrics and logs in the test's own process, which keeps what it is sent.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use anyhow::Result;
use opentelemetry_proto::tonic::collector::logs::v1::logs_service_server::{LogsService, LogsServiceServer};
use opentelemetry_proto::tonic::collector::logs::v1::{ExportLogsServiceRequest, ExportLogsServiceResponse};
use opentelemetry_proto::tonic::collector::metrics::v1::metrics_service_server::{
    MetricsService, MetricsServiceServer,
};
use opentelemetry_proto::tonic::collector::metrics::v1::{ExportMetricsServiceRequest, ExportMetricsServiceResponse};
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{TraceService, TraceServiceServer};
use opentelemetry_proto::tonic::collector::trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse};
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value};
use opentelemetry_proto::tonic::logs::v1::LogRecord;
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::Span;
use tokio::sync::Notify;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status};
use voiceping_testkit::soon;

/// Where it is, and what has come. It ends with the test's runtime.
#[derive(Clone)]
pub(crate) struct Collector {
    pub(crate) address: SocketAddr,
    inbox: Arc<Inbox>,
}

#[derive(Default)]
struct Inbox {
    received: Mutex<Received>,
    came: Notify,
}

/// All that has come.
#[derive(Default)]
pub(crate) struct Received {
    /// With the service and the instance that they are of.
    pub(crate) spans: Vec<(Of, Span)>,
    pub(crate) logs: Vec<(Of, LogRecord)>,
    /// The names of metrics, by service.
    pub(crate) metrics: BTreeMap<String, Vec<String>>,
}

/// A process: its service and its instance.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Of {
    pub(crate) service: String,
    pub(crate) instance: String,
}

impl Collector {
    pub(crate) async fn start() -> Result<Self> {
        let incoming = TcpIncoming::bind("127.0.0.1:0".parse()?)?;
        let address = incoming.local_addr()?;
        let collector = Self { address, inbox: Arc::default() };
        let serving = Server::builder()
            .add_service(TraceServiceServer::new(collector.clone()))
            .add_service(MetricsServiceServer::new(collector.clone()))
            .add_service(LogsServiceServer::new(collector.clone()))
            .serve_with_incoming(incoming);
        tokio::spawn(serving);
        Ok(collector)
    }

    /// Waits until this has come.
    pub(crate) async fn until<T>(&self, what: &str, mut found: impl FnMut(&Received) -> Option<T>) -> Result<T> {
        soon(what, async {
            loop {
                let came = self.inbox.came.notified();
                if let Some(found) = found(&self.inbox.received.lock().expect("no panic")) {
                    return found;
                }
                came.await;
            }
        })
        .await
    }

    fn receive(&self, take: impl FnOnce(&mut Received)) {
        take(&mut self.inbox.received.lock().expect("no panic"));
        self.inbox.came.notify_waiters();
    }
}

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        self.receive(|received| {
            for of in request.into_inner().resource_spans {
                let process = process(of.resource.as_ref());
                let spans = of.scope_spans.into_iter().flat_map(|scope| scope.spans);
                received.spans.extend(spans.map(|span| (process.clone(), span)));
            }
        });
        Ok(Response::new(Default::default()))
    }
}

#[tonic::async_trait]
impl MetricsService for Collector {
    async fn export(
        &self,
        request: Request<ExportMetricsServiceRequest>,
    ) -> Result<Response<ExportMetricsServiceResponse>, Status> {
        self.receive(|received| {
            for of in request.into_inner().resource_metrics {
                let known = received.metrics.entry(process(of.resource.as_ref()).service).or_default();
                for metric in of.scope_metrics.into_iter().flat_map(|scope| scope.metrics) {
                    if !known.contains(&metric.name) {
                        known.push(metric.name);
                    }
                }
            }
        });
        Ok(Response::new(Default::default()))
    }
}

#[tonic::async_trait]
impl LogsService for Collector {
    async fn export(
        &self,
        request: Request<ExportLogsServiceRequest>,
    ) -> Result<Response<ExportLogsServiceResponse>, Status> {
        self.receive(|received| {
            for of in request.into_inner().resource_logs {
                let process = process(of.resource.as_ref());
                let records = of.scope_logs.into_iter().flat_map(|scope| scope.log_records);
                received.logs.extend(records.map(|record| (process.clone(), record)));
            }
        });
        Ok(Response::new(Default::default()))
    }
}

fn process(resource: Option<&Resource>) -> Of {
    let attributes = resource.map(|resource| &resource.attributes[..]).unwrap_or_default();
    let text = |name| text(attributes, name).unwrap_or_default();
    Of { service: text("service.name"), instance: text("service.instance.id") }
}

/// An attribute that is text.
pub(crate) fn text(attributes: &[KeyValue], name: &str) -> Option<String> {
    let value = attributes.iter().find(|attribute| attribute.key == name)?.value.as_ref()?;
    match value {
        AnyValue { value: Some(any_value::Value::StringValue(text)) } => Some(text.clone()),
        _ => None,
    }
}
