//! Dead letters: which there are, and processing them again, which only an admin may.

use axum::extract::{Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Json;
use pipeline_stage::printable;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::access::Role;
use crate::archive::Problem;
use crate::server::Shared;

/// Of a dead letter's bytes this many characters are shown.
const SHOWN: usize = 400;
/// So many are shown at once.
const AT_ONCE: u32 = 50;

/// Where to go on.
#[derive(Debug, Deserialize)]
pub struct Wanted {
    #[serde(default)]
    after: i64,
}

/// Which to process again.
#[derive(Debug, Deserialize)]
pub struct Replay {
    /// Their numbers; all when there are none.
    numbers: Vec<i64>,
}

/// `/api/dead-letters`: the oldest first.
pub async fn list(State(shared): State<Shared>, Query(wanted): Query<Wanted>) -> Result<Json<Value>, Problem> {
    let letters =
        shared.watched.ask_store(move |store| async move { store.dead_letters(wanted.after, AT_ONCE).await }).await?;
    let after = letters.last().map(|(number, _)| *number).filter(|_| letters.len() == AT_ONCE as usize);
    let letters = letters.into_iter().map(|(number, letter)| {
        let bytes = letter.row.bytes.as_deref().map(|bytes| printable(&String::from_utf8_lossy(bytes), SHOWN));
        json!({
            "number": number,
            "stage": letter.row.stage,
            "place": letter.row.place,
            "offset": letter.row.offset,
            "reason": printable(&letter.reason, SHOWN),
            "at": letter.at.0 / 1_000,
            "bytes": bytes,
        })
    });
    Ok(Json(json!({ "letters": letters.collect::<Vec<_>>(), "after": after })))
}

/// `POST /api/dead-letters/replay`: asks for some to be processed again; the tasks do it within some seconds.
pub async fn replay(
    State(shared): State<Shared>,
    headers: HeaderMap,
    Json(replay): Json<Replay>,
) -> Result<Json<Value>, (StatusCode, String)> {
    if shared.access.role(&headers) != Role::Admin {
        let words = "only who has the admin token may do this: PIPELINE_ADMIN_TOKEN sets it";
        return Err((StatusCode::FORBIDDEN, words.into()));
    }
    let asked = shared.watched.ask_store(move |store| async move { store.request_replay(&replay.numbers).await }).await;
    let count = asked.map_err(|error| (StatusCode::CONFLICT, error.chain()))?;
    Ok(Json(json!({ "count": count })))
}
