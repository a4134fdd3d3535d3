BEGIN TRANSACTION;
CREATE TABLE images (
	id VARCHAR(48) NOT NULL, 
	job_id VARCHAR(40) NOT NULL, 
	"index" INTEGER NOT NULL, 
	kind VARCHAR(16) NOT NULL, 
	seed BIGINT, 
	prompt TEXT NOT NULL, 
	negative_prompt TEXT NOT NULL, 
	width INTEGER NOT NULL, 
	height INTEGER NOT NULL, 
	sha256 VARCHAR(64) NOT NULL, 
	metadata TEXT NOT NULL, 
	created_at FLOAT NOT NULL, 
	PRIMARY KEY (id), 
	UNIQUE (job_id, "index"), 
	FOREIGN KEY(job_id) REFERENCES jobs (id) ON DELETE CASCADE
);
INSERT INTO "images" VALUES('066169a0f64e19777a46_000','066169a0f64e19777a46',0,'txt2img',7,'a lake at dawn','',128,128,'abababababababababababababababababababababababababababababababab','{"prompt": "a lake at dawn", "seed": 7}',1700000001.5);
CREATE TABLE jobs (
	id VARCHAR(40) NOT NULL, 
	kind VARCHAR(16) NOT NULL, 
	status VARCHAR(16) NOT NULL, 
	client VARCHAR(64) NOT NULL, 
	idempotency_key VARCHAR(128), 
	request TEXT NOT NULL, 
	text TEXT NOT NULL, 
	matched_from TEXT, 
	num_images INTEGER NOT NULL, 
	attempts INTEGER NOT NULL, 
	error TEXT, 
	created_at FLOAT NOT NULL, 
	started_at FLOAT, 
	finished_at FLOAT, 
	PRIMARY KEY (id), 
	UNIQUE (client, idempotency_key)
);
INSERT INTO "jobs" VALUES('066169a0f64e19777a46','txt2img','done','somebody',NULL,'{"upscaler": "x4plus", "embed_metadata": true, "negative_prompt": "", "num_images": 1, "num_inference_steps": 20, "guidance_scale": 2.5, "solver": "dpmpp_2m", "seed": 7, "weights": "ema", "model": null, "eta": 0.0, "guidance_rescale": 0.0, "guidance_interval": null, "apg_eta": 1.0, "apg_norm_threshold": null, "apg_momentum": 0.0, "reuse_every": 1, "spacing": null, "upscale": null, "preview_every": 5, "preview_mode": "linear", "prompt": "a lake at dawn", "prompt_matching": null, "kind": "txt2img"}','a lake at dawn',NULL,1,0,NULL,1700000000.5,1.79595605194711732859e+09,1.79595605197282338146e+09);
INSERT INTO "jobs" VALUES('066169a0f64e463c4cc7','txt2img','queued','somebody',NULL,'{"upscaler": "x4plus", "embed_metadata": true, "negative_prompt": "", "num_images": 1, "num_inference_steps": 20, "guidance_scale": 2.5, "solver": "dpmpp_2m", "seed": 7, "weights": "ema", "model": null, "eta": 0.0, "guidance_rescale": 0.0, "guidance_interval": null, "apg_eta": 1.0, "apg_norm_threshold": null, "apg_momentum": 0.0, "reuse_every": 1, "spacing": null, "upscale": null, "preview_every": 5, "preview_mode": "linear", "prompt": "bamboo in rain", "prompt_matching": null, "kind": "txt2img"}','bamboo in rain',NULL,1,0,NULL,1700000000.5,NULL,NULL);
CREATE INDEX ix_jobs_status ON jobs (status);
CREATE INDEX ix_images_job_id ON images (job_id);
COMMIT;
