//! The table's own rows, and what must be true of them whenever no command is at work.

use std::collections::BTreeSet;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::types::AttributeValue;

use super::Stack;

fn client(stack: &Stack) -> Client {
    let engines = &stack.local.engines;
    let config = aws_sdk_dynamodb::config::Builder::from(&engines.sdk_config());
    Client::from_conf(config.endpoint_url(&engines.dynamodb_url).build())
}

/// Makes what killed publishings and cleaners have left as old as if a month had passed.
pub async fn age_cleaners_and_intents(stack: &Stack) {
    const MONTH: u64 = 30 * 24 * 60 * 60 * 1_000_000_000;
    let (client, table) = (client(stack), stack.local.engines.config().table_name);
    let query = client.query().table_name(&table).key_condition_expression("pk = :pk");
    let query =
        query.expression_attribute_values(":pk", AttributeValue::S("registry#000000000000".to_owned()));
    for row in query.send().await.unwrap().items.unwrap() {
        let sk = row["sk"].as_s().unwrap().clone();
        let mut parts: Vec<_> = sk.split('#').map(str::to_owned).collect();
        let mut aged = row.clone();
        match parts[0].as_str() {
            // The number is the time.
            "publishing" => {
                parts[1] = (parts[1].parse::<u64>().unwrap() - MONTH).to_string();
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

/// The keys of all rows about a repository: partition key and sort key.
async fn rows(stack: &Stack, repository: &str) -> BTreeSet<(String, String)> {
    let (client, engines) = (client(stack), &stack.local.engines);
    let mut pages = client.scan().table_name(engines.config().table_name).into_paginator().items().send();
    let mut rows = BTreeSet::new();
    while let Some(row) = pages.next().await {
        let row = row.unwrap();
        let key =
            |name: &str| row.get(name).and_then(|value: &AttributeValue| value.as_s().ok()).unwrap().clone();
        let (pk, sk) = (key("pk"), key("sk"));
        let is_about_it = pk.split_once('/').is_some_and(|(_, rest)| {
            let name = rest.split(['@', ':']).next().unwrap_or_default();
            name == repository
        });
        if is_about_it {
            rows.insert((pk, sk));
        }
    }
    rows
}

/// Checks that every row about a repository has those that belong to it.
pub async fn assert_consistent(stack: &Stack, repository: &str) {
    let rows = rows(stack, repository).await;
    let r = format!("000000000000/{repository}");
    let has = |pk: String, sk: &str| rows.contains(&(pk, sk.to_owned()));
    for (pk, sk) in &rows {
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
                has(pk.clone(), "image") && has(format!("repository#{r}"), &format!("image#{name}#tag#{tag}"))
            }
            ("image", ["index", index]) => {
                has(pk.clone(), "image") && has(format!("image#{r}@{index}"), "image")
            }
            ("layer", ["layer"]) => has(format!("repository#{r}"), &format!("layer#{name}")),
            ("layer", ["reference", image]) => {
                has(pk.clone(), "layer") && has(format!("image#{r}@{image}"), "image")
            }
            ("tag", ["tag"]) => {
                has(format!("repository#{r}"), &format!("tag#{name}"))
                    && rows.iter().any(|(_, sk)| sk.ends_with(&format!("#tag#{name}")))
            }
            _ => false,
        };
        assert!(belongs, "{pk} {sk} is alone in {rows:#?}");
    }
}
