//! The two ways to the database and the memory of responses: one for the board, one for programs.
//!
//! Programs cannot fill the board's. The path decides, so that a client need not be trusted; what the board's scripts ask
//! lies below `/board/`. Whoever asks there takes turns with the screens, and a client of many questions waits for its own
//! (see [`fair_queue`](super::fair_queue)).

use actix_web::HttpRequest;

/// One of the ways.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Lane {
    /// The pages, what their scripts ask, and the metrics.
    Board,
    /// `/api/…`.
    Api,
}

impl Lane {
    /// Both, with their names in metrics.
    pub const ALL: [(&str, Self); 2] = [("board", Self::Board), ("api", Self::Api)];

    /// Returns the lane of a request.
    #[must_use]
    pub fn of(request: &HttpRequest) -> Self {
        // The decoded path, as the router matches it.
        if request.match_info().as_str().starts_with("/api/") { Self::Api } else { Self::Board }
    }
}

/// One of each lane.
#[derive(Debug, Clone, Default)]
pub struct ByLane<T> {
    /// Of [`Lane::Board`].
    pub board: T,
    /// Of [`Lane::Api`].
    pub api: T,
}

impl<T> ByLane<T> {
    /// Returns that of `lane`.
    pub fn of(&self, lane: Lane) -> &T {
        match lane {
            Lane::Board => &self.board,
            Lane::Api => &self.api,
        }
    }
}
