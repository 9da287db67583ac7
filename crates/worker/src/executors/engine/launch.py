"""Runs llama.cpp's server on one model. Takes its settings as one JSON line on standard input, says
its address as one JSON line, and ends when standard input does: whoever started it is gone."""
import importlib.machinery, importlib.util, json, os, resource, sys, threading

wanted = json.loads(sys.stdin.readline())
# Before anything is loaded: what needs more fails by itself and takes nobody else's memory.
resource.setrlimit(resource.RLIMIT_AS, (wanted["memory"], wanted["memory"]))
# A core file would hold what clients asked.
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
parent = threading.Thread(target=lambda: (sys.stdin.read(), os._exit(0)), daemon=True)
parent.start()

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
if b"You are a helpful AI assistant named SmolLM" in head:
    # This template's own system message makes the smallest model answer wrongly (4 of 10 right;
    # 10 of 10 with an empty one), and alone it says the same thing over and over.
    params.chat_template = (
        "{% for message in messages %}{% if loop.first and message['role'] != 'system' %}"
        "{{ '<|im_start|>system\n<|im_end|>\n' }}{% endif %}"
        "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}"
        "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
    )
    params.sampling.dry_multiplier = 0.8
    params.sampling.dry_allowed_length = 3
    params.sampling.dry_penalty_last_n = -1
server = llama.Server(params)
print(json.dumps({"address": server.listening_address}), flush=True)
parent.join()
