//! A proxy in front of the embedded DynamoDB that counts requests and what they consume.
//!
//! DynamoDB bills capacity units: reads by 4 KB, half as much if eventually consistent, writes by 1
//! KB, both doubled in a transaction. The embedded engine computes them from item sizes by the same
//! rules, and says so in each answer when it is asked.
//! Source: [DynamoDB read and write
//! operations](https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/read-write-operations.html)
//! and [Capacity management for
//! transactions](https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/transaction-apis.html#transaction-capacity-handling).
//! That an item of a transaction which is only checked costs as much as a written one is not on
//! those pages; it was measured: [What a conditional DynamoDB transaction actually
//! costs](https://martinhicks.dev/articles/what-a-conditional-dynamodb-transaction-costs).
//!
//! A cancelled transaction is billed too, but its answer does not say how much: here it is an
//! error.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use layergate_bench::Result;
use layergate_bench::http::{Connection, Message, connect};
use serde_json::Value;

/// Requests to DynamoDB, and the capacity units that they consumed.
#[derive(Debug, Default, Clone, Copy, PartialEq)]
pub struct Cost {
    pub requests: u64,
    pub read_units: f64,
    pub write_units: f64,
}

/// The proxy.
pub struct Meter {
    pub address: SocketAddr,
    count: Arc<Mutex<Result<Cost>>>,
}

impl Meter {
    /// Starts one in front of the engine at `engine`.
    pub fn start(engine: SocketAddr) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let address = listener.local_addr()?;
        let count = Arc::new(Mutex::new(Ok(Cost::default())));
        let counted = count.clone();
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let counted = counted.clone();
                // An error here is the end of the connection, as when a process was ended.
                thread::spawn(move || pass(client, engine, &counted));
            }
        });
        Ok(Self { address, count })
    }

    /// What was consumed since it was asked last.
    pub fn take(&self) -> Result<Cost> {
        let mut count = self.count.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::replace(&mut *count, Ok(Cost::default()))
    }
}

fn pass(client: TcpStream, engine: SocketAddr, count: &Mutex<Result<Cost>>) -> Result<()> {
    client.set_nodelay(true)?;
    let mut client = Connection::new(client);
    let mut engine = connect(engine)?;
    while let Some(request) = client.receive()? {
        let target = request.header("x-amz-target").unwrap_or_default();
        let operation = target.rsplit('.').next().unwrap_or_default().to_owned();
        let mut body: Value = serde_json::from_slice(request.body)?;
        body["ReturnConsumedCapacity"] = "TOTAL".into();
        engine.send(&head(&request), body.to_string().as_bytes())?;
        let answer = engine.receive()?.ok_or("the embedded DynamoDB closed a connection")?;
        note(
            &mut count.lock().unwrap_or_else(PoisonError::into_inner),
            consumed(&operation, &answer),
        );
        client.send(&head(&answer), answer.body)?;
    }
    Ok(())
}

/// Adds to the count. The first error stays.
fn note(count: &mut Result<Cost>, consumed: Result<Cost>) {
    match (count.as_mut(), consumed) {
        (Ok(cost), Ok(consumed)) => {
            cost.requests += consumed.requests;
            cost.read_units += consumed.read_units;
            cost.write_units += consumed.write_units;
        }
        (Ok(_), Err(error)) => *count = Err(error),
        (Err(_), _) => {}
    }
}

/// A message's head as [`Connection::send`] takes it.
fn head(message: &Message) -> String {
    let is_length = |line: &str| line.to_ascii_lowercase().starts_with("content-length:");
    let lines = message.head.lines().filter(|line| !line.is_empty() && !is_length(line));
    lines.collect::<Vec<_>>().join("\r\n")
}

fn consumed(operation: &str, answer: &Message) -> Result<Cost> {
    let body: Value = serde_json::from_slice(answer.body)?;
    // Of a request for several items it is a list, with an element for each table.
    let tables = match &body["ConsumedCapacity"] {
        Value::Array(tables) => tables.as_slice(),
        table => std::slice::from_ref(table),
    };
    let units: Option<Vec<f64>> =
        tables.iter().map(|table| table["CapacityUnits"].as_f64()).collect();
    let units = units
        .ok_or_else(|| format!("{operation} was answered without what it consumed: {body}"))?;
    let units = units.iter().sum();
    match operation {
        "GetItem" | "BatchGetItem" | "Query" => {
            Ok(Cost { requests: 1, read_units: units, write_units: 0.0 })
        }
        "TransactWriteItems" => Ok(Cost { requests: 1, read_units: 0.0, write_units: units }),
        _ => Err(format!("{operation} is new here: does it read or write?").into()),
    }
}
