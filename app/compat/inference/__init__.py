"""Neuronpedia's inference server: its web app takes this service as its inference host, by the address
`http://host:port/inference`.

`base` says how requests and answers are written, `requests` and `shapes` what they hold, `names` which
model and SAEs they mean. Activations (`single`, `everything`, `topk`, `source`, `raw`), look-ups (`util`,
`text`, `about`) and steering (`steer`, `chat` by `wanted`, `outputs` and `streams`) are files of routes;
`errors` gives every error on them Neuronpedia's shape, `secret` asks who calls.
"""
