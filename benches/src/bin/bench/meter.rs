//! A proxy in front of the embedded DynamoDB that counts requests and the capacity units that they
//! consume.
//!
//! DynamoDB bills a read unit for 4 KB, half a unit if the read is eventually consistent, and a
//! write unit for 1 KB. In a transaction, both double. An item that a transaction only checks costs
//! as much as an item that it writes. The embedded engine computes the units by the same rules from
//! the items' sizes, and reports them if the request asks. `benches/README.md` has the sources.
//!
//! DynamoDB also bills a cancelled transaction, but its answer does not say how much. Here it is an
//! error.

use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};

use layergate_bench::Result;
use layergate_bench::http::{self, Connection, Message, connect};
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
        let count = Arc::new(Mutex::new(Ok(Cost::default())));
        let counted = count.clone();
        let address = http::listen(move |client| pass(client, engine, &counted))?;
        Ok(Self { address, count })
    }

    /// The cost since the last call of this. An error if a request's cost is not known.
    pub fn take(&self) -> Result<Cost> {
        let mut count = self.count.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::replace(&mut *count, Ok(Cost::default()))
    }
}

fn pass(client: TcpStream, engine: SocketAddr, count: &Mutex<Result<Cost>>) -> Result<()> {
    let mut client = Connection::new(client);
    let mut engine = connect(engine)?;
    while let Some(request) = client.receive()? {
        let target = request.header("x-amz-target").unwrap_or_default();
        let operation = target.rsplit('.').next().unwrap_or_default().to_owned();
        let mut body: Value = serde_json::from_slice(request.body)?;
        body["ReturnConsumedCapacity"] = "TOTAL".into();
        engine.send(&request.head_to_send(), body.to_string().as_bytes())?;
        let answer = engine.receive()?.ok_or("the embedded DynamoDB closed a connection")?;
        note(
            &mut count.lock().unwrap_or_else(PoisonError::into_inner),
            consumed(&operation, &answer),
        );
        client.pass(&answer)?;
    }
    Ok(())
}

/// Adds to the count. The first error replaces the count and stays.
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

fn consumed(operation: &str, answer: &Message) -> Result<Cost> {
    let body: Value = serde_json::from_slice(answer.body)?;
    // In the answer to a request for several items, it is a list with an element for each table.
    let tables = match &body["ConsumedCapacity"] {
        Value::Array(tables) => tables.as_slice(),
        table => std::slice::from_ref(table),
    };
    let units: Option<Vec<f64>> =
        tables.iter().map(|table| table["CapacityUnits"].as_f64()).collect();
    let units = units
        .ok_or_else(|| format!("{operation} was answered without its consumed capacity: {body}"))?;
    let units = units.iter().sum();
    match operation {
        "GetItem" | "BatchGetItem" | "Query" => {
            Ok(Cost { requests: 1, read_units: units, write_units: 0.0 })
        }
        "TransactWriteItems" => Ok(Cost { requests: 1, read_units: 0.0, write_units: units }),
        _ => Err(format!("{operation}: not known whether it reads or writes").into()),
    }
}
