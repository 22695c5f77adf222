//! Every kind of message that a plant sends, mixed inside the same batches: what message n is, and what it must become.
//!
//! The number alone decides the kind, so the oracle needs no record of what was sent. A block of 32 numbers holds each kind.

use serde_json::json;

/// Machines that publish all the time.
pub const MACHINES: u64 = 20;
/// Retained messages that the broker holds before Andon first connects: two valid ones, one without a time, and a broken one.
pub const RETAINED: u64 = 4;
/// The limit of a payload, in every plant that sets no other.
pub const MAX_PAYLOAD: &str = "mqtt.max_payload=4KiB";
/// The filters of the numbered messages.
pub const SUBSCRIPTIONS: &str = "mqtt.subscriptions=factory/machine/+/telemetry,nameless/+";
/// The last wills among them.
pub const LAST_WILL: &str = r#"liveness.last_will=[{filter="factory/machine/+/will",payload="gone"}]"#;

/// 2026-01-01T00:00:00Z in seconds.
const EPOCH_SECONDS: i64 = 1_767_225_600;
pub const BLOCK: u64 = 32;

/// What a message is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A reading with a time of its own.
    Plain,
    /// The same bytes as the previous message.
    Again,
    /// A reading without a time: delivered twice, it may be stored twice.
    Timeless,
    /// Two readings with a bad element between them.
    Array,
    /// The previous message as an element, and a broken element.
    ArrayAgain,
    NotUtf8,
    NotJson,
    NotAnObject,
    /// Neither payload nor topic name a machine.
    Nameless,
    BadName,
    TooLarge,
    /// On the topic of a last will, without being one.
    Control,
    /// The only reading of a machine that soon goes offline.
    Mortal,
    /// That machine's last will.
    Will,
}

use Kind::{
    Again, Array, ArrayAgain, BadName, Control, Mortal, Nameless, NotAnObject, NotJson, NotUtf8, Plain,
    Timeless, TooLarge, Will,
};

/// Plain messages 20 apart share machine and instant: only their digest tells them apart.
#[rustfmt::skip]
const KINDS: [Kind; BLOCK as usize] = [
    Plain, Again, NotJson, Plain, Array, Plain, NotUtf8, Plain,
    Timeless, Plain, Control, Plain, Nameless, Plain, Mortal, Plain,
    Again, Plain, BadName, Plain, Plain, Plain, Will, Plain,
    TooLarge, Plain, NotJson, Plain, NotAnObject, Plain, ArrayAgain, Plain,
];

pub fn kind(number: u64) -> Kind {
    KINDS[usize::try_from(number % BLOCK).unwrap()]
}

/// A row of telemetry that a message must make.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// Which of the readings of its message.
    pub part: u64,
    pub machine: String,
    pub temperature: f64,
    /// The device's time; without one the row has the time of receipt.
    pub instant: Option<String>,
}

/// A row of `rejected_message` that a message must make.
#[derive(Debug, Clone, PartialEq)]
pub struct Rejected {
    pub element: u32,
    pub reason: &'static str,
    pub payload: Vec<u8>,
}

/// A message and the rows that it must make; duplicates and control messages make none.
#[derive(Debug, Clone)]
pub struct Sample {
    pub topic: String,
    pub payload: Vec<u8>,
    pub rows: Vec<Row>,
    pub rejected: Option<Rejected>,
}

impl Sample {
    /// True if a row of either table shows that the message came.
    pub fn is_visible(&self) -> bool {
        !self.rows.is_empty() || self.rejected.is_some()
    }
}

/// The temperature of message `number`, by which the oracle recognises the row.
fn temperature(number: u64, part: u64) -> f64 {
    20.0 + part as f64 + (number % 100) as f64 / 10.0
}

fn machine(number: u64) -> String {
    format!("press-{:02}", (number + number / BLOCK) % MACHINES)
}

fn mortal(number: u64) -> String {
    format!("mortal-{}", number / BLOCK)
}

fn instant(number: u64, part: u64) -> String {
    let seconds =
        EPOCH_SECONDS + i64::try_from(number / BLOCK).unwrap() - i64::try_from(part).unwrap() * 86_400;
    chrono::DateTime::from_timestamp(seconds, 0).unwrap().format("%Y-%m-%dT%H:%M:%SZ").to_string()
}

fn telemetry(segment: &str) -> String {
    format!("factory/machine/{segment}/telemetry")
}

fn reading(machine: &str, number: u64, part: u64) -> (String, Row) {
    let (temperature, instant) = (temperature(number, part), instant(number, part));
    let payload = format!(
        r#"{{"machine_id":"{machine}","n":{number},"part":{part},"temperature":{temperature:.1},"vibration":0.42,"timestamp":"{instant}"}}"#
    );
    (payload, Row { part, machine: machine.to_owned(), temperature, instant: Some(instant) })
}

/// One reading of `machine`, on the topic of that machine.
fn valid(machine: &str, number: u64) -> Sample {
    let (payload, row) = reading(machine, number, 0);
    Sample { topic: telemetry(machine), payload: payload.into_bytes(), rows: vec![row], rejected: None }
}

/// A message that makes a rejection and nothing else.
fn rejected(topic: String, reason: &'static str, payload: Vec<u8>) -> Sample {
    let rejected = Some(Rejected { element: 0, reason, payload: payload.clone() });
    Sample { topic, payload, rows: Vec::new(), rejected }
}

/// A message that makes a row in neither table.
fn invisible(topic: String, payload: Vec<u8>) -> Sample {
    Sample { topic, payload, rows: Vec::new(), rejected: None }
}

/// Returns message `number`. A kind that may be recorded again when it is delivered again has a topic of its own, so that the
/// broker's log tells how often it was delivered.
pub fn sample(number: u64) -> Sample {
    let own_topic = telemetry(&format!("r-{number}"));
    let round = usize::try_from(number / BLOCK).unwrap();
    let one_of = |all: &[&str]| all[round % all.len()].as_bytes().to_vec();
    match kind(number) {
        Plain => valid(&machine(number), number),
        Again => {
            let Sample { topic, payload, .. } = sample(number - 1);
            invisible(topic, payload)
        }
        Timeless => {
            let (machine, temperature) = (machine(number), temperature(number, 0));
            let payload = json!({ "machine_id": machine, "n": number, "temperature": temperature });
            let row = Row { part: 0, machine, temperature, instant: None };
            let topic = telemetry(&format!("t-{number}"));
            Sample { topic, payload: payload.to_string().into_bytes(), rows: vec![row], rejected: None }
        }
        Array => array(number),
        ArrayAgain => array_again(number),
        NotUtf8 => rejected(own_topic, "invalid_utf8", b"{\"machine_id\":\"press-\xff\"}".to_vec()),
        NotJson => {
            let deep = "[".repeat(300);
            let broken = ["{\"temperature\":", "", "{\"s\":\"\\ud800\"}", "{} {}", "{\"raw\":\"\0\"}", &deep];
            rejected(own_topic, "invalid_json", one_of(&broken))
        }
        NotAnObject => rejected(own_topic, "not_an_object", one_of(&["[]", "5", "\"text\"", "null"])),
        Nameless => {
            rejected(format!("nameless/{number}"), "missing_machine_id", b"{\"temperature\":1}".to_vec())
        }
        BadName => {
            let long = format!("{{\"machine_id\":\"{}\"}}", "x".repeat(101));
            rejected(own_topic, "invalid_machine_id", one_of(&[&long, "{\"machine_id\":\"a\\u0007b\"}"]))
        }
        TooLarge => {
            let fill = "7".repeat(4_097 + round % 1_000);
            rejected(own_topic, "too_large", format!("{{\"fill\":\"{fill}\"}}").into_bytes())
        }
        Control => invisible(format!("factory/machine/{}/will", machine(number)), b"here".to_vec()),
        Mortal => valid(&mortal(number), number),
        Will => invisible(format!("factory/machine/{}/will", mortal(number)), b"gone".to_vec()),
    }
}

fn array(number: u64) -> Sample {
    let machine = machine(number);
    let ((first, one), (second, other)) = (reading(&machine, number, 0), reading(&machine, number, 1));
    Sample {
        topic: telemetry(&format!("a-{number}")),
        payload: format!("[{first}, 5,\n{second}]").into_bytes(),
        rows: vec![one, other],
        rejected: Some(Rejected { element: 1, reason: "not_an_object", payload: b"5".to_vec() }),
    }
}

fn array_again(number: u64) -> Sample {
    let before = String::from_utf8(sample(number - 1).payload).unwrap();
    let broken = format!(r#"{{"machine_id":"\u0001","n":{number}}}"#);
    Sample {
        topic: telemetry(&format!("b-{number}")),
        payload: format!("[{before},{broken}]").into_bytes(),
        rows: Vec::new(),
        rejected: Some(Rejected { element: 1, reason: "invalid_machine_id", payload: broken.into_bytes() }),
    }
}

/// Returns retained message `index`, below [`RETAINED`]. Its machine never publishes live.
pub fn retained(index: u64) -> Sample {
    let topic = telemetry(&format!("kept-{index}"));
    if index + 1 == RETAINED {
        return rejected(topic, "invalid_json", b"{\"kept\":".to_vec());
    }
    let time =
        if index == 2 { String::new() } else { format!(r#","timestamp":"2026-01-01T00:00:0{index}Z""#) };
    let payload = format!(r#"{{"kept":{index},"temperature":{index}.5{time}}}"#);
    invisible(topic, payload.into_bytes())
}

/// True if message `number` contains the whole previous message.
pub fn repeats_the_previous(number: u64) -> bool {
    matches!(kind(number), Again | ArrayAgain)
}

/// Elements of message `number`.
pub fn elements(number: u64) -> u64 {
    match kind(number) {
        Array => 3,
        ArrayAgain => 2,
        _ => 1,
    }
}

/// The sums over the messages 0 to `count`, exclusive.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sums {
    /// Messages that a row of either table shows.
    pub visible: u64,
    pub rows: u64,
    pub rejected: u64,
    pub duplicate: u64,
    pub control: u64,
    /// Machines that publish.
    pub machines: u64,
    pub wills: u64,
}

pub fn sums(count: u64) -> Sums {
    let of = |kind: Kind, places: u64| -> u64 {
        KINDS.iter().zip(0..places).filter(|(each, _)| **each == kind).count() as u64
    };
    let count_of = |kind| of(kind, BLOCK) * (count / BLOCK) + of(kind, count % BLOCK);
    let counts = |kinds: &[Kind]| kinds.iter().map(|kind| count_of(*kind)).sum::<u64>();
    let bad = counts(&[NotUtf8, NotJson, NotAnObject, Nameless, BadName, TooLarge]);
    let (array, array_again, wills, mortal) =
        (count_of(Array), count_of(ArrayAgain), count_of(Will), count_of(Mortal));
    let valid = counts(&[Plain, Timeless, Mortal]);
    // Every machine has published within the first blocks.
    let presses: std::collections::BTreeSet<String> = (0..count.min(MACHINES * BLOCK))
        .filter(|number| matches!(kind(*number), Plain | Timeless | Array))
        .map(machine)
        .collect();
    Sums {
        visible: valid + array + bad + array_again,
        rows: valid + 2 * array,
        rejected: bad + array + array_again,
        duplicate: count_of(Again) + array_again,
        control: count_of(Control) + wills,
        machines: presses.len() as u64 + mortal,
        wills,
    }
}

/// Returns the number that a topic contains.
pub fn number_of(topic: &str) -> Option<u64> {
    let mut levels = topic.split('/');
    let name = match (levels.next(), levels.next(), levels.next(), levels.next()) {
        (Some("nameless"), Some(number), None, None) => number,
        (Some("factory"), Some("machine"), Some(name), Some("telemetry")) => {
            let (kind, number) = name.split_once('-')?;
            if !matches!(kind, "r" | "a" | "b" | "t") {
                return None;
            }
            number
        }
        _ => return None,
    };
    name.parse().ok()
}

/// Returns the numbers of a mortal machine's two messages: its reading and its last will.
pub fn life_of(machine: &str) -> Option<(u64, u64)> {
    let block: u64 = machine.strip_prefix("mortal-")?.parse().ok()?;
    let place = |kind| KINDS.iter().position(|each| *each == kind).expect("each kind is there") as u64;
    Some((block * BLOCK + place(Mortal), block * BLOCK + place(Will)))
}

#[test]
fn the_sums_are_those_of_the_messages() {
    for count in [0, 1, 5, 31, 32, 33, 100, 777, 2_000] {
        let samples: Vec<Sample> = (0..count).map(sample).collect();
        let sums = sums(count);
        assert_eq!(sums.visible, samples.iter().filter(|sample| sample.is_visible()).count() as u64);
        assert_eq!(sums.rows, samples.iter().map(|sample| sample.rows.len() as u64).sum::<u64>());
        assert_eq!(sums.rejected, samples.iter().filter(|sample| sample.rejected.is_some()).count() as u64);
        let machines: std::collections::BTreeSet<&str> =
            samples.iter().flat_map(|sample| &sample.rows).map(|row| row.machine.as_str()).collect();
        assert_eq!(sums.machines, machines.len() as u64);
    }
}
