"""Runs llama.cpp's server on one model. Takes its settings as one JSON line on standard input, says
its address as one JSON line, and ends when standard input does: whoever started it is gone."""
import fcntl, importlib.machinery, importlib.util, json, os, resource, select, sys

wanted = json.loads(sys.stdin.readline())
# Before anything is loaded: what needs more fails by itself and takes nobody else's memory.
resource.setrlimit(resource.RLIMIT_AS, (wanted["memory"], wanted["memory"]))
# A core file would hold what clients asked.
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
# While a model is loaded, minutes from a slow disk, nothing of Python runs: the signal that comes
# when standard input closes ends the process all the same.
fcntl.fcntl(0, fcntl.F_SETOWN, os.getpid())
fcntl.fcntl(0, fcntl.F_SETFL, fcntl.fcntl(0, fcntl.F_GETFL) | os.O_ASYNC)
if select.select([0], [], [], 0)[0]:
    sys.exit("nobody waits for the model any more")

# One file of the wheel is all that is needed; a folder may hold the wheel as it was unpacked.
loader = importlib.machinery.ExtensionFileLoader("xllamacpp", wanted["engine"])
llama = importlib.util.module_from_spec(importlib.util.spec_from_loader("xllamacpp", loader))
loader.exec_module(llama)

params = llama.CommonParams()
params.model.path = wanted["file"]
params.model_alias = {wanted["name"]}
params.hostnames = ["127.0.0.1"]
params.port = 0
params.api_keys = [wanted["key"]]
params.ui = params.endpoint_slots = params.endpoint_props = False
params.n_threads_http = wanted["slots"] + 2
params.n_parallel = wanted["slots"]
params.n_ctx = wanted["context"] * wanted["slots"]
params.kv_unified = False
params.cache_ram_mib = wanted["cache_mib"]
params.cpuparams.n_threads = params.cpuparams_batch.n_threads = wanted["threads"]
params.verbosity = 2

with open(wanted["file"], "rb") as file:
    head = file.read(8 << 20)


def template(head):
    """The chat template of the file; empty if there is none."""
    key = b"tokenizer.chat_template"
    # Its length, itself, and that its value is a text: a length and as many bytes.
    mark = len(key).to_bytes(8, "little") + key + (8).to_bytes(4, "little")
    at = head.find(mark) + len(mark)
    if at < len(mark):
        return ""
    end = at + 8 + int.from_bytes(head[at : at + 8], "little")
    return head[at + 8 : end].decode("utf-8", "replace")


words = template(head)
SMOL = "You are a helpful AI assistant named SmolLM, trained by Hugging Face"
TAGS = "within <tool_call></tool_call> XML tags"
if SMOL in words:
    # This system message makes the smallest model answer wrongly (4 of 10 right; 10 of 10 with an
    # empty one), and alone it says the same thing over and over.
    params.chat_template = words.replace(SMOL, "")
    # llama.cpp's own 0.8 is too warm for it: 26 of 60 ordinary questions right, 63 of 120 with this.
    # Only a default: a client's own value wins. For Qwen2.5-Coder nothing counted better than 0.8.
    params.sampling.temp = 0.4
    params.sampling.dry_multiplier = 0.8
    params.sampling.dry_allowed_length = 3
    params.sampling.dry_penalty_last_n = -1
elif TAGS in words and b"Qwen2.5-Coder" in head:
    # The small ones of this family write a call as a block of code, whatever they are told, and go
    # on calling once they have the response. The server learns the form from the template.
    words = words.replace(TAGS, "in a code block")
    words = words.replace(
        "</tool_call><|im_end|>",
        "</tool_call>\\n\\nCall a function only if the question needs it, else answer in words. "
        "Once you have its response, answer in words.<|im_end|>",
    )
    # One of the files doubles the braces of its example.
    words = words.replace('{{\\"name\\"', '{\\"name\\"').replace("-object>}}", "-object>}")
    words = words.replace("<tool_call>", "```json").replace("</tool_call>", "```")
    params.chat_template = words
server = llama.Server(params)
print(json.dumps({"address": server.listening_address}), flush=True)
sys.stdin.read()
os._exit(0)
