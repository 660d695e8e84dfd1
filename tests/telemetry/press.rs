//! One press in a cluster, as a collector and Prometheus see it.

use std::collections::BTreeSet;

use anyhow::{Context, Result};
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;

use crate::cluster::Cluster;
use crate::collector::{Collector, Of, Received, text};
use crate::page::{declared, in_prometheus};
use crate::phone::{press, release};
use crate::scrape::{admin, scrape, until};
use crate::user::User;

const CHANNEL: &str = "lobby";
const SET_FLOOR: &str = "voiceping.media.v1.MediaNode/SetFloor";

/// The spans of the trace that begins with this one, if it is whole.
struct Trace {
    spans: Vec<(Of, Span)>,
}

impl Trace {
    fn of(received: &Received, root: &str) -> Option<Self> {
        let (_, root) = received.spans.iter().find(|(_, span)| span.name == root && span.parent_span_id.is_empty())?;
        let id = root.trace_id.clone();
        let spans = received.spans.iter().filter(|(_, span)| span.trace_id == id).cloned();
        Some(Self { spans: spans.collect() })
    }

    /// The one span with this name and kind.
    fn one(&self, name: &str, kind: SpanKind) -> Option<&(Of, Span)> {
        let mut found = self.spans.iter().filter(|(_, span)| span.name == name && span.kind() == kind);
        found.next().filter(|_| found.next().is_none())
    }

    fn all(&self, name: &str) -> Vec<&(Of, Span)> {
        self.spans.iter().filter(|(_, span)| span.name == name).collect()
    }

    /// What a press in this cluster is made of. `None`: something has not come yet.
    fn assert_press(&self) -> Option<()> {
        let (gateway, ptt_start) = self.one("ptt-start", SpanKind::Server)?;
        let (at, take) = self.one("take", SpanKind::Client)?;
        let (by, asked) = self.one(SET_FLOOR, SpanKind::Client)?;
        let (node, answered) = self.one(SET_FLOOR, SpanKind::Server)?;
        let (on, gate) = self.one("gate opens", SpanKind::Internal)?;
        let (heard_on, first_packet) = self.one("first packet", SpanKind::Internal)?;
        let pushes = self.all("push speaker-changed");
        if pushes.len() < 2 {
            return None;
        }
        assert_eq!((at, by), (gateway, gateway), "the gateway asks");
        assert_eq!((on, heard_on), (node, node), "the media node opens");
        assert_eq!((gateway.service.as_str(), node.service.as_str()), ("voiceping-gateway", "voiceping-media-node"));
        assert_eq!(take.parent_span_id, ptt_start.span_id);
        assert_eq!(asked.parent_span_id, ptt_start.span_id);
        assert_eq!(answered.parent_span_id, asked.span_id, "across processes");
        assert_eq!(gate.parent_span_id, answered.span_id);
        assert_eq!(first_packet.parent_span_id, gate.span_id);
        let pushed_by: BTreeSet<_> = pushes.iter().map(|(process, _)| process).collect();
        assert_eq!((pushes.len(), pushed_by.len()), (2, 2), "each gateway once");
        assert!(pushed_by.contains(gateway));
        assert!(pushes.iter().all(|(_, push)| push.parent_span_id == ptt_start.span_id), "over the bus");
        assert!(self.spans.iter().all(|(_, span)| span.end_time_unix_nano >= span.start_time_unix_nano));
        Some(())
    }

    fn id(&self) -> String {
        let id = self.spans.first().map(|(_, span)| span.trace_id.as_slice()).unwrap_or_default();
        id.iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_press_is_one_trace_across_the_cluster_and_everything_is_counted() -> Result<()> {
    let collector = Collector::start().await?;
    let cluster = Cluster::start(&collector).await?;
    let mut speaker = User::listening(&cluster, 0, 1, CHANNEL).await?;
    let mut listener = User::listening(&cluster, 1, 2, CHANNEL).await?;
    let voice = speaker.microphone(CHANNEL).await?;
    press(&mut speaker.socket, CHANNEL).await?;
    voice.microphone.say(10).await?;
    listener.hear(10).await?;

    let trace = collector
        .until("the trace of the press", |received| {
            let trace = Trace::of(received, "ptt-start")?;
            trace.assert_press()?;
            Some(trace.id())
        })
        .await?;

    release(&mut speaker.socket, CHANNEL).await?;
    collector
        .until("the trace of its end", |received| {
            let stop = Trace::of(received, "ptt-stop")?;
            let (_, root) = stop.one("ptt-stop", SpanKind::Server)?;
            let (_, freed) = stop.one("release", SpanKind::Client)?;
            let (_, gate) = stop.one("gate closes", SpanKind::Internal)?;
            (stop.all("push speaker-changed").len() == 2).then_some(())?;
            assert_eq!(freed.parent_span_id, root.span_id);
            assert!(gate.start_time_unix_nano < freed.start_time_unix_nano, "the gate before the floor");
            assert_ne!(stop.id(), trace);
            Some(())
        })
        .await?;

    // The log knows the trace: over OTLP, and in its own lines.
    collector
        .until("the gate in the log", |received| {
            let gates = received
                .logs
                .iter()
                .filter(|(_, record)| text(&record.attributes, "kind").as_deref() == Some("opened"));
            let ids: Vec<_> = gates.filter_map(|(_, record)| text(&record.attributes, "trace_id")).collect();
            ids.contains(&trace).then_some(())
        })
        .await?;
    assert!(
        cluster.media_nodes[0].log().contains(&format!("\"trace_id\":\"{trace}\"")),
        "{}",
        cluster.media_nodes[0].log()
    );

    let [gateway, other] = [admin(&cluster.gateways[0])?, admin(&cluster.gateways[1])?];
    let [node, far] = [admin(&cluster.media_nodes[0])?, admin(&cluster.media_nodes[1])?];
    for (admin, series, least) in [
        (&gateway, r#"voiceping_floor_requests_total{outcome="granted"}"#, 1.0),
        (&gateway, "voiceping_floor_grant_duration_seconds_count", 1.0),
        (&gateway, r#"voiceping_floor_freed_total{cause="released"}"#, 1.0),
        (&gateway, "voiceping_floor_talk_duration_seconds_count", 1.0),
        (&gateway, r#"voiceping_gateway_messages_total{outcome="ok",type="ptt-start"}"#, 1.0),
        (&gateway, "voiceping_gateway_sockets", 1.0),
        (&gateway, r#"voiceping_gateway_nodes{state="ready"}"#, 2.0),
        (&gateway, "voiceping_state_up", 1.0),
        (&gateway, "voiceping_state_announcement_delay_seconds_count", 2.0),
        (&gateway, "voiceping_ready", 1.0),
        (&other, r#"voiceping_gateway_pushes_total{type="speaker-changed"}"#, 2.0),
        (&node, "voiceping_media_gates_opened_total", 1.0),
        (&node, r#"voiceping_media_gates_closed_total{reason="closed"}"#, 1.0),
        (&node, "voiceping_media_packets_admitted_total", 10.0),
        (&node, r#"voiceping_media_relay_packets_total{network_io_direction="transmit"}"#, 10.0),
        (&node, "voiceping_media_talk_start_duration_seconds_count", 1.0),
        (&node, "voiceping_media_packet_delay_seconds_count", 1.0),
        (&node, "voiceping_media_capacity", 5000.0),
        (&node, r#"voiceping_media_transports{state="connected"}"#, 2.0),
        (&far, "voiceping_media_packets_forwarded_total", 10.0),
        (&far, "voiceping_media_relay_nodes", 1.0),
        (&far, "voiceping_ready", 1.0),
    ] {
        until(admin, series, |value| value >= least).await.with_context(|| series.to_owned())?;
    }

    // Nothing that is not on the page, and nothing lost.
    let known: BTreeSet<String> = declared().iter().map(in_prometheus).chain(["target_info".to_owned()]).collect();
    for admin in [&gateway, &other, &node, &far] {
        for (series, value) in scrape(admin).await? {
            let name = series.split('{').next().unwrap_or_default();
            let base = ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end));
            let is_known = known.contains(name) || base.is_some_and(|base| known.contains(base));
            assert!(is_known, "{series} is not in docs/metrics.md");
            assert!(name != "voiceping_telemetry_lost_total" || value == 0.0, "{series} {value}");
        }
    }
    collector
        .until("metrics over OTLP", |received| {
            let has = |service: &str, name: &str| {
                received.metrics.get(service)?.iter().any(|known| known == name).then_some(())
            };
            has("voiceping-gateway", "voiceping.floor.grant.duration")?;
            has("voiceping-media-node", "voiceping.media.packets.forwarded")
        })
        .await?;
    Ok(())
}
