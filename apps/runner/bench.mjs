import { spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { Redis } from 'ioredis';
import { Keys } from '@carrierarr/protocol';
import { CommandStore, defineScripts, DrainQueue, ExecutionHistory } from '@carrierarr/store';
const script = process.argv[2], lines = Number(process.argv[3]), verb = process.argv[4] ?? 'flood';
const port = 40000 + Math.floor(Math.random()*9000);
const rs = spawn('redis-server', ['--port', port, '--bind','127.0.0.1','--save','','--appendonly',process.env.AOF??'no','--dir','/tmp'], {stdio:'ignore'});
const redis = new Redis(port,'127.0.0.1',{retryStrategy:()=>50, maxRetriesPerRequest:null}); redis.on('error',()=>{}); await redis.ping();
defineScripts(redis);
const r = spawn(process.execPath, [...(process.env.PROF?['--cpu-prof','--cpu-prof-dir=/tmp/prof']:[]), 'test/runner/fixtures/runner-process.mjs','--script',script,'--redis-url',`redis://127.0.0.1:${port}`,'--redis-key-prefix','b','--log-level','warn','--history-bytes','256MiB','--output-bytes-max','10GiB'], {stdio:['ignore','pipe','inherit']});
await new Promise(ok=>r.stdout.on('data',ok));
const keys = new Keys('b'); const history={entriesMax:1e6,bytesMax:1<<28,ageMaxMs:1e9,executionsMs:1e9};
const store=new CommandStore({connection:redis,keys,history,queueLengthMax:100,pendingTargetsMax:6400,idempotencyMs:1e5});
const q=new DrainQueue(redis,keys), h=new ExecutionHistory(redis,keys);
const cpu=(pid)=>{const f=readFileSync(`/proc/${pid}/stat`,'utf8').split(') ')[1].split(' ');return (Number(f[11])+Number(f[12]))/100};
const rss=(pid)=>Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`,'utf8'))[1])/1024;
for (let i=0;i<3;i++){
const c0=cpu(r.pid), d0=cpu(rs.pid), t=performance.now();
const a=await store.submit({target:'w',command:verb,args:[String(lines)],subject:'s',address:'a',gateway:'g',idempotent:false}); await q.add('w');
let e; for(;;){ e=await h.get(a.execution); if(e.state==='ended')break; await new Promise(ok=>setTimeout(ok,10)); }
const s=(performance.now()-t)/1000;
console.log(e.outcome,e.lines,e.truncated_lines,`${s.toFixed(2)} s, ${(e.lines/s/1e6).toFixed(2)} M lines/s, runner cpu ${(cpu(r.pid)-c0).toFixed(2)} s, redis cpu ${(cpu(rs.pid)-d0).toFixed(2)} s, rss ${rss(r.pid).toFixed(0)} MiB, entries ${await redis.xlen(keys.log('w'))}`);
}
r.kill('SIGTERM'); await new Promise(ok=>r.on('exit',ok)); rs.kill('SIGKILL'); process.exit();
