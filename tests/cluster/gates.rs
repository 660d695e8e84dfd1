//! Did ever two speak at once? The media nodes log each gate that they open, extend and close; this reads all their logs
//! and puts the intervals side by side.

use std::collections::HashMap;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

/// Where and how long packets could pass, in microseconds since the Unix epoch.
#[derive(Debug, Clone)]
struct Open {
    epoch: u64,
    from: u64,
    /// When it was closed, or would have closed by itself.
    to: u64,
}

/// What a media node has logged, and when the process was found ended, if it was killed.
#[derive(Debug, Clone)]
pub(crate) struct Log {
    pub(crate) text: String,
    pub(crate) ended_at_us: Option<u64>,
}

/// The time of the logs.
pub(crate) fn now_us() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    u64::try_from(now.as_micros()).expect("before the year 500,000")
}

/// Checks that no two gates of a channel were open at a time. Answers how many gates were opened: a check of nothing would
/// show nothing.
pub(crate) fn assert_no_overlap(logs: &[Log]) -> Result<usize> {
    let mut by_channel: HashMap<String, Vec<Open>> = HashMap::new();
    for log in logs {
        for (channel, open) in gates(log)? {
            by_channel.entry(channel).or_default().push(open);
        }
    }
    let mut count = 0;
    for (channel, mut gates) in by_channel {
        count += gates.len();
        gates.sort_by_key(|gate| (gate.from, gate.epoch));
        for pair in gates.windows(2) {
            ensure!(pair[0].to <= pair[1].from, "two gates of {channel} at once: {:?} and {:?}", pair[0], pair[1]);
            ensure!(pair[0].epoch <= pair[1].epoch, "epochs of {channel} go back: {:?} and {:?}", pair[0], pair[1]);
        }
    }
    Ok(count)
}

/// The intervals of one node. Its workers write their lines each on its own: that a gate has come to its end may be
/// written after another worker has opened the next one, so each gate is followed by itself.
fn gates(log: &Log) -> Result<Vec<(String, Open)>> {
    let mut gates = Vec::new();
    let mut open: HashMap<(String, u64), Open> = HashMap::new();
    for line in log.text.lines().filter(|line| line.contains("voiceping::gate")) {
        let line: Value = serde_json::from_str(line).with_context(|| format!("a line of JSON: {line}"))?;
        let number = |name: &str| line[name].as_u64().with_context(|| format!("{name} in {line}"));
        let epoch = number("epoch")?;
        let channel = line["channel"].as_str().with_context(|| format!("a channel in {line}"))?.to_owned();
        let key = (channel, epoch);
        match line["kind"].as_str() {
            Some("opened") => {
                let gate = Open { epoch, from: number("at_us")?, to: number("until_us")? };
                let before = open.insert(key, gate);
                ensure!(before.is_none(), "a gate is closed before it is opened again: {before:?}, {line}");
            }
            Some("extended") => {
                open.get_mut(&key).with_context(|| format!("it is open: {line}"))?.to = number("until_us")?;
            }
            Some("closed") => {
                let mut gate = open.remove(&key).with_context(|| format!("it is open: {line}"))?;
                gate.to = gate.to.min(number("at_us")?);
                gates.push((key.0, gate));
            }
            kind => anyhow::bail!("an unknown kind {kind:?}: {line}"),
        }
    }
    for ((channel, _), mut gate) in open {
        gate.to = gate.to.min(log.ended_at_us.unwrap_or(gate.to));
        gates.push((channel, gate));
    }
    Ok(gates)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(lines: &[(&str, &str, u64, u64, u64)], ended_at_us: Option<u64>) -> Log {
        let line = |(kind, channel, epoch, at, until): &(&str, &str, u64, u64, u64)| {
            format!(
                r#"{{"target":"voiceping::gate","kind":"{kind}","channel":"{channel}","epoch":{epoch},"at_us":{at},"until_us":{until}}}"#
            )
        };
        Log { text: lines.iter().map(line).collect::<Vec<_>>().join("\n"), ended_at_us }
    }

    #[test]
    fn an_overlap_is_found_and_what_is_none_is_not() {
        let first = log(&[("opened", "a", 1, 10, 50), ("extended", "a", 1, 30, 80), ("closed", "a", 1, 60, 60)], None);
        let after = log(&[("opened", "a", 2, 60, 90)], None);
        let too_early = log(&[("opened", "a", 2, 59, 90)], None);
        let elsewhere = log(&[("opened", "b", 2, 20, 90)], None);
        assert_eq!(assert_no_overlap(&[first.clone(), after]).expect("none"), 2);
        assert_eq!(assert_no_overlap(&[first.clone(), elsewhere]).expect("none"), 2);
        assert!(assert_no_overlap(&[first, too_early.clone()]).is_err());
        let killed = log(&[("opened", "a", 1, 10, 500)], Some(40));
        assert!(assert_no_overlap(&[killed, too_early.clone()]).is_ok(), "a gate ends with its process");
        let left_open = log(&[("opened", "a", 1, 10, 500)], None);
        assert!(assert_no_overlap(&[left_open, too_early]).is_err());
    }
}
