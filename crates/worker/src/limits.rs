//! Every bound of the agent, in one place. Sizes are bytes, times milliseconds, unless the name
//! says so. What the realm decides (lease, heartbeat, credit) comes in its hello.

pub(crate) use mtor_types::worker::{
    DATA_BYTES_MAX as PIECE_BYTES_MAX, ENVELOPE_BYTES_MAX, FRAME_BYTES_MAX,
};

/// Leases at a time, running and unacknowledged together. As many as one message may name.
pub(crate) const LEASES_MAX: usize = 4_096;
/// Pieces and result of one intent that are kept to be sent again after a reconnect.
pub(crate) const KEPT_PER_INTENT_MAX: usize = 8 * 1024 * 1024;
/// The same of all intents together.
pub(crate) const KEPT_MAX: usize = 64 * 1024 * 1024;
/// Pieces of one intent that wait for credit or for the socket before its executor waits.
pub(crate) const BACKLOG_BYTES_MAX: usize = 256 * 1024;
/// Reports of all executors that wait for the agent.
pub(crate) const REPORTS_MAX: usize = 1_024;
/// Reports taken in one wake-up.
pub(crate) const REPORTS_PER_WAKE_MAX: usize = 256;
/// Frames read in one wake-up.
pub(crate) const FRAMES_PER_WAKE_MAX: usize = 64;
/// Bytes of pieces given to the socket before it is flushed, not counting what the last of them is
/// above it: a heartbeat waits behind them.
pub(crate) const FLUSH_BYTES_MAX: usize = 128 * 1024;
/// Bytes one intent sends before it is the next one's turn.
pub(crate) const TURN_BYTES_MAX: usize = 64 * 1024;
/// A completed lease is forgotten this long after its deadline if nobody acknowledges it.
pub(crate) const UNACKNOWLEDGED_MS: u64 = 60_000;
/// The longest deadline that is believed; no manifest allows more.
pub(crate) const DEADLINE_MS_MAX: u64 = 24 * 60 * 60 * 1000;

/// Offers that a realm takes of one worker.
pub(crate) const OFFERS_MAX: usize = 32;
/// Slots that a realm takes of one offer.
pub(crate) const SLOTS_PER_OFFER_MAX: u32 = 1_024;
/// Messages of executors about their offers that wait for the agent.
pub(crate) const OFFER_UPDATES_MAX: usize = 64;
/// An intent's or a model's name in an offer.
pub(crate) const NAME_BYTES_MAX: usize = 256;

/// Opening a connection, and each step of its handshake.
pub(crate) const CONNECT_MS: u64 = 10_000;
/// A session in which nothing was heard for so many leases is over.
pub(crate) const SILENCE_LEASES: u64 = 3;
/// A heartbeat that is so late says that this worker stood still, and no realm was silent meanwhile.
pub(crate) const PAUSE_MS: u64 = 500;
/// The realm's heartbeat and lease are believed within these.
pub(crate) const HEARTBEAT_MS_MIN: u64 = 20;
pub(crate) const HEARTBEAT_MS_MAX: u64 = 60_000;
/// Back-off after a lost session and after a program's death.
pub(crate) const BACKOFF_MS_MIN: u64 = 200;
pub(crate) const BACKOFF_MS_MAX: u64 = 15_000;
/// What lived this long starts its back-off anew.
pub(crate) const BACKOFF_RESET_MS: u64 = 30_000;
/// After the last lease is done a drain waits this long for acknowledgements.
pub(crate) const DRAIN_ACKNOWLEDGE_MS: u64 = 2_000;
/// The default time that a drain leaves to what runs.
pub(crate) const DRAIN_GRACE_MS: u64 = 30_000;

/// An answer of the realm to an enrolment.
pub(crate) const ENROL_BYTES_MAX: usize = 64 * 1024;
/// The key file and the memory of enrolments.
pub(crate) const IDENTITY_BYTES_MAX: u64 = 64 * 1024;

/// `echo`: pieces of one intent, and the delay before each.
pub(crate) const ECHO_CHUNKS_MAX: u64 = 10_000;
pub(crate) const ECHO_DELAY_MS_MAX: u64 = 60_000;

/// `fft`: points of one intent; the frame is the narrower bound for most shapes.
pub(crate) const FFT_POINTS_MAX: u64 = 1 << 24;
/// `fft`: points of the plans that are kept.
pub(crate) const FFT_PLANNED_POINTS_MAX: usize = 1 << 24;

/// `exec`: a program has this long for its first line, the offer.
pub(crate) const EXEC_OFFER_MS: u64 = 60_000;
/// `exec`: bytes and pieces of one intent that wait for the agent; a program cannot be slowed down
/// for one intent without slowing the others, so one that outruns this fails.
pub(crate) const EXEC_BACKLOG_BYTES_MAX: usize = FRAME_BYTES_MAX;
pub(crate) const EXEC_BACKLOG_PIECES_MAX: usize = 16_384;
/// `exec`: the same bytes of all intents of a program together.
pub(crate) const EXEC_BACKLOGS_BYTES_MAX: usize = 4 * EXEC_BACKLOG_BYTES_MAX;
/// `exec`: bytes of lines that wait for the program to read them.
pub(crate) const EXEC_LINES_BYTES_MAX: usize = 4 * FRAME_BYTES_MAX;
/// `exec`: a line of standard error, as it is logged.
pub(crate) const EXEC_STDERR_BYTES_MAX: usize = 1_024;
/// `exec`: a program has this long to end after its standard output has.
pub(crate) const EXEC_EXIT_MS: u64 = 1_000;

/// `engine`: tokens of context that each slot has. Four slots of 4,096 are half a gigabyte for a
/// model of 1.5 billion weights.
pub(crate) const ENGINE_CONTEXT: u32 = 4_096;
/// `engine`: MiB of prompts that are kept beside the slots; the server's own default is 8 GiB.
pub(crate) const ENGINE_CACHE_MIB: u64 = 128;
/// `engine`: a model has this long to load; a large one comes from a slow disk.
pub(crate) const ENGINE_START_MS: u64 = 180_000;
/// `engine`: the longest pause before it is started again. A start reads the whole model.
pub(crate) const ENGINE_PAUSE_MS_MAX: u64 = 300_000;
/// `engine`: the line in which its address stands.
pub(crate) const ENGINE_LINE_BYTES_MAX: u64 = 4 * 1024;
/// `engine`: what is needed beside the weights, see `memory.rs`.
pub(crate) const ENGINE_OVERHEAD_BYTES: u64 = 640 * 1024 * 1024;
/// `engine`: slots that the estimate of a model's memory holds, and what each more takes at least.
pub(crate) const ENGINE_SLOTS: u32 = 4;
pub(crate) const ENGINE_SLOT_BYTES: u64 = 96 * 1024 * 1024;
/// `engine`: address space that is reserved and not used: libraries, stacks, arenas.
pub(crate) const ENGINE_RESERVE_BYTES: u64 = 1024 * 1024 * 1024;

/// `openai`: how often the backend is asked for its models, also one that was found.
pub(crate) const DISCOVERY_MS: u64 = 30_000;
/// `openai`: how soon after a refused connection it is asked again.
pub(crate) const DISCOVERY_SOON_MS: u64 = 2_000;
/// `openai`: the list of models.
pub(crate) const MODELS_BYTES_MAX: usize = 1024 * 1024;
/// `openai`: what is shown of a backend's error.
pub(crate) const BACKEND_MESSAGE_BYTES_MAX: usize = 500;
/// `openai`: what is read of a backend's error.
pub(crate) const BACKEND_ERROR_BYTES_MAX: usize = 64 * 1024;
/// `openai`: how long a model may take for its first probe. A big one has to be loaded first.
pub(crate) const PROBE_MS: u64 = 60_000;
/// `openai`: the same after many that were too slow.
pub(crate) const PROBE_MS_MAX: u64 = 300_000;
/// `openai`: the pause before a model that failed is asked again.
pub(crate) const PROBE_PAUSE_MS_MIN: u64 = 2_000;
pub(crate) const PROBE_PAUSE_MS_MAX: u64 = 300_000;
/// `openai`: the first offer waits this long for models that were not asked yet.
pub(crate) const PROBE_GRACE_MS: u64 = 2_000;
/// `openai`: the answer to a probe. A vector of 8,192 numbers is 200 kB.
pub(crate) const PROBE_BYTES_MAX: usize = 1024 * 1024;
/// `openai`: models of which Ollama is asked more, one by one.
pub(crate) const SHOWN_MODELS_MAX: usize = 64;
/// `openai`: models of each kind that a server which was found and has nothing loaded is made to
/// load, one after the other, until one answers.
pub(crate) const WOKEN_MAX: usize = 8;
/// `audio`: questions to the models of a backend; who may do both intents is asked two.
pub(crate) const AUDIO_MODELS_MAX: usize = 16;
/// `audio`: the answer to a sound. Half an hour of speech is 30 kB.
pub(crate) const TRANSCRIPT_BYTES_MAX: usize = 4 * 1024 * 1024;
/// `audio`: stretches of speech in one answer.
pub(crate) const SEGMENTS_MAX: usize = 10_000;
/// `audio`: what stands before the samples of a WAV file.
pub(crate) const AUDIO_HEAD_BYTES_MAX: usize = 64 * 1024;
/// `audio`: a piece, in bytes of sound: an eighth of a second of PCM, and what came at once.
pub(crate) const SOUND_PIECE_BYTES_MIN: usize = 6 * 1024;
pub(crate) const SOUND_PIECE_BYTES_MAX: usize = 96 * 1024;
/// `audio`: a sound in one answer: base64 and what else the result says fit a frame.
pub(crate) const SOUND_BYTES_MAX: usize = (PIECE_BYTES_MAX - 64 * 1024) / 4 * 3;
/// `audio`: what a backend may put around twice the longest speech before it has no end.
pub(crate) const SILENCE_MS_MAX: u64 = 30_000;
/// `audio`: the answer to a probe; half a minute of the widest WAV.
pub(crate) const PROBE_SOUND_BYTES_MAX: usize = 4 * 1024 * 1024;
/// How often a place is looked at where a server may appear.
pub(crate) const LOOK_MS: u64 = 3_000;
/// The same where somebody else answers: it is not to fill that one's log.
pub(crate) const LOOK_STRANGER_MS_MAX: u64 = 30_000;
/// How long such a look may take, and what is asked of a server about its models.
pub(crate) const LOOK_PATIENCE_MS: u64 = 2_000;

/// Executors that the parent process has added; a model each.
pub(crate) const ADDED_EXECUTORS_MAX: usize = 64;

/// The first offer waits this long for executors that have not said what they can do: a model
/// takes seconds to load.
pub(crate) const FIRST_OFFER_MS: u64 = 20_000;
/// The name of a group, as a program says it.
pub(crate) const GROUP_BYTES_MAX: usize = 128;
