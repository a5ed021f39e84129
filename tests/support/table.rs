//! The table's own rows, and what must be true of them whenever no command is at work.

use std::collections::{BTreeMap, HashMap};

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::types::AttributeValue;

use super::Stack;

/// A row: its attributes by name.
pub type Row = HashMap<String, AttributeValue>;

pub fn client(stack: &Stack) -> Client {
    let engines = &stack.local.engines;
    let config = aws_sdk_dynamodb::config::Builder::from(&engines.sdk_config());
    Client::from_conf(config.endpoint_url(&engines.dynamodb_url).build())
}

/// Makes what killed publishings and cleaners have left as old as if a month had passed.
pub async fn age_cleaners_and_intents(stack: &Stack) {
    const MONTH: u64 = 30 * 24 * 60 * 60 * 1_000_000_000;
    const RANDOM_NUMBERS: u128 = 1_000_000_000_000_000_000;
    let (client, table) = (client(stack), stack.local.engines.config().table_name);
    let query = client.query().table_name(&table).key_condition_expression("pk = :pk");
    let query = query
        .expression_attribute_values(":pk", AttributeValue::S("registry#000000000000".to_owned()));
    for row in query.send().await.unwrap().items.unwrap() {
        let sk = row["sk"].as_s().unwrap().clone();
        let mut parts: Vec<_> = sk.split('#').map(str::to_owned).collect();
        let mut aged = row.clone();
        match parts[0].as_str() {
            // The number is the time, with 18 random digits after it.
            "publishing" => {
                parts[1] = (parts[1].parse::<u128>().unwrap() - u128::from(MONTH) * RANDOM_NUMBERS)
                    .to_string();
                aged.insert("sk".to_owned(), AttributeValue::S(parts.join("#")));
                let delete = client.delete_item().table_name(&table).key("pk", row["pk"].clone());
                delete.key("sk", row["sk"].clone()).send().await.unwrap();
            }
            "cleaning" if parts.len() == 2 => {
                let lease_ends = row["lease_ends"].as_n().unwrap().parse::<u64>().unwrap() - MONTH;
                aged.insert("lease_ends".to_owned(), AttributeValue::N(lease_ends.to_string()));
            }
            _ => continue,
        }
        client.put_item().table_name(&table).set_item(Some(aged)).send().await.unwrap();
    }
}

/// All rows.
pub async fn all_rows(stack: &Stack) -> Vec<Row> {
    let (client, engines) = (client(stack), &stack.local.engines);
    let mut pages =
        client.scan().table_name(engines.config().table_name).into_paginator().items().send();
    let mut rows = Vec::new();
    while let Some(row) = pages.next().await {
        rows.push(row.unwrap());
    }
    rows
}

/// All rows about a repository, besides those of fills: by partition key and sort key.
pub async fn rows(stack: &Stack, repository: &str) -> BTreeMap<(String, String), Row> {
    let mut rows = BTreeMap::new();
    for row in all_rows(stack).await {
        let key = |name: &str| row[name].as_s().unwrap().clone();
        let (pk, sk) = (key("pk"), key("sk"));
        let is_about_it = pk.split_once('/').is_some_and(|(_, rest)| {
            let name = rest.split(['@', ':']).next().unwrap_or_default();
            name == repository && !pk.starts_with("fill#")
        });
        if is_about_it {
            rows.insert((pk, sk), row);
        }
    }
    rows
}

/// Checks that every row about a repository has those that belong to it.
pub async fn assert_consistent(stack: &Stack, repository: &str) {
    let rows = rows(stack, repository).await;
    let r = format!("000000000000/{repository}");
    let row = |pk: String, sk: &str| rows.get(&(pk, sk.to_owned()));
    let has = |pk: String, sk: &str| row(pk, sk).is_some();
    for ((pk, sk), item) in &rows {
        let (kind, rest) = pk.split_once('#').unwrap();
        let name = rest.strip_prefix(&r).unwrap().trim_start_matches(['@', ':']);
        let belongs = match (kind, &sk.split('#').collect::<Vec<_>>()[..]) {
            ("repository", ["repository"]) => true,
            ("repository", ["image", image]) => has(format!("image#{r}@{image}"), "image"),
            ("repository", ["image", image, "tag", tag]) => {
                has(format!("image#{r}@{image}"), &format!("tag#{tag}"))
                    && has(format!("tag#{r}:{tag}"), "tag")
            }
            ("repository", ["tag", tag]) => has(format!("tag#{r}:{tag}"), "tag"),
            ("repository", ["layer", layer]) => has(format!("layer#{r}@{layer}"), "layer"),
            ("image", ["image"]) => has(format!("repository#{r}"), &format!("image#{name}")),
            ("image", ["tag", tag]) => {
                has(pk.clone(), "image")
                    && has(format!("repository#{r}"), &format!("image#{name}#tag#{tag}"))
            }
            // The images of an index from another registry come later, or never.
            ("image", ["index", index]) => {
                let index = row(format!("image#{r}@{index}"), "image");
                index
                    .is_some_and(|index| has(pk.clone(), "image") || index.contains_key("upstream"))
            }
            ("layer", ["layer"]) => {
                let is_somewhere = item.contains_key("object_key") || item.contains_key("upstream");
                is_somewhere && has(format!("repository#{r}"), &format!("layer#{name}"))
            }
            ("layer", ["reference", image]) => {
                has(pk.clone(), "layer") && has(format!("image#{r}@{image}"), "image")
            }
            ("tag", ["tag"]) => {
                has(format!("repository#{r}"), &format!("tag#{name}"))
                    && rows.keys().any(|(_, sk)| sk.ends_with(&format!("#tag#{name}")))
            }
            _ => false,
        };
        assert!(belongs, "{pk} {sk} is alone in {:#?}", rows.keys());
    }
}
