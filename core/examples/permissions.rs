//! Prints what each role may do, as JSON. The test of the template's policies reads it:
//! `tests/sam/test_permissions.py`.

use layergate_core::role::{Cleaner, Publisher, Puller, Role, RuleManager};
use serde_json::json;

fn main() {
    let roles = json!({
        "Puller": Puller::PERMISSIONS,
        "Publisher": Publisher::PERMISSIONS,
        "RuleManager": RuleManager::PERMISSIONS,
        "Cleaner": Cleaner::PERMISSIONS,
    });
    println!("{roles:#}");
}
