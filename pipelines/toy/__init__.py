"""The embedded model: a tiny Wan of the real architecture that draws what a small grammar of prompts says."""
